"""The documents of the repository, and what is in them: headings, links, commands, examples."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from memcram.cli import cli

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "benchmarks", "training", "examples")
PAGES = sorted(
    [*ROOT.glob("*.md")] + [path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.md")]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S
)
_MARK = re.compile(r"<!-- (?P<mark>run|file)(?:: (?P<argument>\S+))? -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block, with the comment in the line before it."""

    language: str
    body: str
    mark: str = ""
    argument: str = ""


@dataclass(frozen=True)
class Example:
    """A command line, and the output that a document shows."""

    line: str
    shown: str


def text_of(name):
    return (ROOT / name).read_text("utf-8")


def blocks(name):
    """The fenced blocks of a page."""
    text, found = text_of(name), []
    for match in _FENCE.finditer(text):
        mark = _MARK.search(text, 0, match.start())
        given = (mark["mark"], mark["argument"] or "") if mark else ("", "")
        found.append(Block(match["info"].strip(), match["body"], *given))
    return found


def prose(name):
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(name))


def examples(body):
    """The commands of a console block, each with the lines up to the next one."""
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return [
        Example(first, rest.rstrip("\n")) for first, _, rest in (p.partition("\n") for p in parts)
    ]


def command_lines(name):
    """Every command line of memcram in a page's blocks, as a list of words."""
    found = []
    for block in blocks(name):
        if block.language in ("console", "") or block.body.startswith("$ "):
            lines = [example.line for example in examples(block.body)]
        elif block.language in ("sh", "bash"):
            lines = re.sub(r"\\\n", " ", block.body).splitlines()
        else:
            continue
        for line in lines:
            found += [words[1:] for words in simple_commands(line) if words[:1] == ["memcram"]]
    return found


def simple_commands(line):
    """The commands of a shell line, without pipes, redirections and comments."""
    shell = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    shell.whitespace_split = True
    commands, skip = [[]], False
    for word in shell:
        if set(word) <= set("|&;"):
            commands.append([])
        elif set(word) <= set("<>"):
            skip = True  # the file that follows
        elif not skip:
            commands[-1].append(word)
        else:
            skip = False
    return commands


def inline_commands(name):
    """The words of every `memcram …` in running text and tables."""
    spans = re.findall(r"`memcram ([^`]+)`", prose(name))
    return [span.replace("\\|", "|").split() for span in spans]


def all_commands():
    """Every command and group of the command line, as the words after `memcram`."""
    found = []

    def visit(group, path):
        for word, command in group.commands.items():
            found.append([*path, word])
            if isinstance(command, click.Group):
                visit(command, [*path, word])

    visit(cli, [])
    return found


def anchors(name):
    """The anchors of a page's headings, by the rule of code hosts."""
    seen, found = {}, set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(name), re.MULTILINE):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]+>", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def links(name):
    """The relative links of a page, as (path, anchor); the path is empty within the page."""
    text = re.sub(r"`[^`\n]*`", "", prose(name))
    targets = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text)
    relative = [one for one in targets if not re.match(r"[a-z][a-z+.-]*:", one)]
    return [tuple(one.partition("#")[::2]) for one in relative]
