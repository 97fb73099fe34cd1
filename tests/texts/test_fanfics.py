"""Saved works: the text that is extracted, and malicious HTML."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcram.errors import TextError
from memcram.texts import fanfics
from memcram.texts.fanfics import read_work, work_text

WORK = """<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>The Lamp - someone</title>
<style type="text/css">p.message { text-align: center; }</style></head><body>
<div id="preface">
  <h2 class="toc-heading">Preface</h2>
  <p class="message"><b>The Lamp</b><br/>Posted originally on the <a href="#">Archive</a>.</p>
  <div class="meta">
    <dl class="tags"><dt>Rating:</dt><dd><a href="#">General Audiences</a></dd>
      <dt>Stats:</dt><dd>Published: 2024-11-01 Words: 12</dd></dl>
    <h1>The Lamp &amp; the
      Sea</h1>
    <div class="byline">by <a rel="author" href="#">someone</a>,
      <a rel="author" href="#">two</a></div>
    <p>Summary</p>
    <blockquote class="userstuff"><p>A keeper <i>waits</i>.</p><p>Long.</p></blockquote>
    <p>Notes</p><blockquote class="userstuff"><p>For a friend.</p></blockquote>
    <div class="endnote-link">See the end of the work for more <a href="#endnotes">notes</a></div>
    <ul><li>Inspired by <a href="#">Another</a></li></ul>
  </div>
</div>
<div id="chapters" class="userstuff">
  <div class="meta group">
    <h2 class="heading">Chapter 1: Dusk</h2>
    <p class="byline">Chapter by <a href="#">two</a></p>
    <p>Chapter Summary</p><blockquote class="userstuff"><p>LEFT OUT</p></blockquote>
    <p>Chapter Notes</p><blockquote class="userstuff"><p>LEFT OUT</p></blockquote>
    <div class="endnote-link">LEFT OUT</div>
  </div>
  <!--chapter content-->
  <div class="userstuff"><p>He lit&nbsp;the <em>lamp</em>.<br>It burned.</p>
    <p>Then 3 &lt; 4,<p>and an unclosed one.</p><blockquote><p>A letter.</p></blockquote>
    <div class="userstuff meta">Still the story.</div><script>alert("LEFT OUT")</script>
    Bare text</div>
  <!--/chapter content-->
  <div class="meta" id="endnotes1"><p>Chapter End Notes</p>
    <blockquote class="userstuff"><p>LEFT OUT</p></blockquote></div>
  <div class="meta group"><h2 class="heading">Chapter 2</h2></div>
  <div class="userstuff"><p>Dawn.</p></div>
</div>
<div id="afterword"><h2 class="toc-heading">Afterword</h2><div class="meta"><div id="endnotes">
  <p>End Notes</p><blockquote class="userstuff"><p>LEFT OUT</p></blockquote></div></div>
  <p class="message">Please <a href="#">drop by</a>.</p></div>
</body></html>"""

TEXT = """Title: The Lamp & the Sea

Author: someone, two

Summary: A keeper waits. Long.

Notes: For a friend.

Chapter 1: Dusk

He lit the lamp.

It burned.

Then 3 < 4,

and an unclosed one.

A letter.

Still the story.

Bare text

Chapter 2

Dawn."""

STORY = '<div id="chapters" class="userstuff"><div class="userstuff"><p>Story.</p></div></div>'


def test_a_work_of_chapters():
    assert work_text(WORK) == TEXT


@pytest.mark.parametrize("marker", ["<!--chapter content-->", "<!--/chapter content-->"])
def test_comments_are_no_matter(marker):
    assert work_text(WORK.replace(marker, "<!-- a <div> -- > b -->")) == TEXT


def test_upper_case_and_windows_lines():
    assert work_text(WORK.replace("\n", "\r\n").replace("<div", "<DIV")) == TEXT


def test_an_element_left_open_does_not_take_the_afterword_into_the_story():
    assert work_text(WORK.replace('</div>\n<div id="afterword">', '<div id="afterword">')) == TEXT


def test_a_work_of_one_chapter():
    assert work_text(STORY) == "Story."
    assert work_text(STORY.replace('<div class="userstuff">', "").replace("</div></div>", "</div>"))


@pytest.mark.parametrize(
    "html", ["", "plain", '<div id="preface"><h1>T</h1></div>', "<p>Story.</p>"]
)
def test_no_work_at_all(html, tmp_path):
    assert work_text(html) == ""
    (tmp_path / "a.html").write_text(html)
    with pytest.raises(TextError, match=r"^path: '.*a.html' has no chapter text; it is not a work"):
        read_work(tmp_path / "a.html")


def test_a_file_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(fanfics, "MAX_BYTES", 10)
    (tmp_path / "a.html").write_text(STORY)
    with pytest.raises(TextError, match=r"has \d+ bytes, allowed: 10 or fewer$"):
        read_work(tmp_path / "a.html")


UNITS = "< </ <!-- <! <![CDATA[ <? <a/b='> <div> </div> <p></b> <div></p> &# &#xD800; <script>"


malicious = pytest.mark.parametrize("unit", [*UNITS.split(), "\x00", "<p " + "a='" * 99 + ">"])
OPEN_STORY = STORY.replace("</div></div>", "")


def calls_to_read(html):
    """Python and C functions called while the text is extracted."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        text = work_text(html)
    finally:
        sys.setprofile(before)
    assert text.startswith("Story.")
    return calls


@malicious
def test_calls_grow_linearly_with_malicious_html(unit):
    once, twice = (calls_to_read(OPEN_STORY + unit * (n // len(unit))) for n in (20_000, 40_000))
    assert twice <= 2 * once + 100


@malicious
def test_the_parser_never_searches_far_for_the_end_of_a_tag(unit, monkeypatch):
    """A tag's end is at most 10,000 characters away, and no other tag begins before it."""
    fed = []
    monkeypatch.setattr(fanfics._Work, "feed", lambda reader, html: fed.append(html))
    work_text(OPEN_STORY + unit * (300_000 // len(unit)))
    for piece in "".join(fed).split("<")[1:]:
        assert re.match(r"/?[A-Za-z][^>]{0,10000}>", piece)


FRAGMENTS = """<div id='preface'>|<div id='chapters'>|<div class='userstuff'>|<div class=meta>|<h1>
|</h1>|<h2 class=heading>|<p>|</p>|</div>|<blockquote class=userstuff>|</blockquote>|Summary
|<script>|</script>|<!--|-->|<|>|&amp;|text"""
fragments = st.sampled_from(FRAGMENTS.split("|"))


@settings(max_examples=60, deadline=None)
@given(st.lists(fragments | st.text(max_size=5), max_size=40))
def test_any_html_gives_a_text_or_none(parts):
    text = work_text("".join(parts))
    text.encode()
    assert text == text.strip()


@settings(max_examples=50, deadline=None)
@given(st.lists(fragments, max_size=20))
def test_whatever_precedes_a_work_that_ends_no_tag_early_its_story_is_found(parts):
    harmless = [part for part in parts if part not in ("<script>", "<!--", "<")]
    assert work_text("".join(harmless) + STORY).endswith("Story.")
