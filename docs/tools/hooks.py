"""Hooks of mkdocs: pages from files outside docs/, help of commands, formulas as MathML.

Every page is a file that is also readable on a code host. Its links are relative to that file; here
they are turned to the pages of the site. A link to a file that is not on the site becomes text.
"""

import html
import posixpath
import re
from pathlib import Path

import click
import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from memcram.cli import cli

ROOT = Path(__file__).parents[2]
# Pages made of files outside docs/.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "extending.md",
    "benchmarks/results/README.md": "results.md",
}
DECISIONS = "decisions/index.md"
# Sections of the README that are on another page of the site, or that its navigation replaces.
ELSEWHERE = ("From Python", "More")

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_HELP = re.compile(r"<!-- help: memcram ?(.*?) -->")
_SECTION = re.compile(r"<!-- README: (.*?) -->")
_MATH = re.compile(r'<(span|div) class="arithmatex">\\([\[(])(.*?)\\[\])]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages made of files outside docs/ and the list of decisions."""
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text("utf-8")
        if source == "README.md":
            text = "".join(part for name, part in sections(text) if name not in ELSEWHERE)
        files.append(File.generated(config, page, content=text))
    entries = []
    for path in sorted((ROOT / "docs/decisions").glob("*.md")):
        entries.append(f"- [{title(path)}]({path.name})\n")
    text = "# Decisions\n\nDesign decisions, with their context and consequences.\n\n"
    files.append(File.generated(config, DECISIONS, content=text + "".join(entries)))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every decision in the navigation."""
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    project = next(one["Project"] for one in config.nav or [] if "Project" in one)
    entry = next(one for one in project if "Decisions" in one)
    entry["Decisions"] = [DECISIONS, *(f"decisions/{path.name}" for path in decisions)]
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert help texts and sections of the README, and turn links to pages of the site."""
    here = page.file.src_uri
    source = next((name for name, site in OUTSIDE.items() if site == here), f"docs/{here}")
    readme = dict(sections((ROOT / "README.md").read_text("utf-8")))
    markdown = turned(markdown, source, here, files)
    markdown = _SECTION.sub(
        lambda found: turned(readme[found[1]], "README.md", here, files), markdown
    )
    return _HELP.sub(lambda found: help_block(found[1]), markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML, which browsers draw without a script."""

    def mathml(found: re.Match[str]) -> str:
        # The converter does not know `aligned`, and writes no space after \\log.
        tex = html.unescape(found[3]).strip().replace("{aligned}", "{align*}")
        tex = tex.replace(r"\log \mathrm", r"\log\, \mathrm")
        display = "block" if found[1] == "div" else "inline"
        return latex2mathml.converter.convert(tex, display=display)

    return _MATH.sub(mathml, content)


def title(path: Path) -> str:
    """The heading of a page."""
    return path.read_text("utf-8").partition("\n")[0].removeprefix("# ")


def sections(text: str) -> list[tuple[str, str]]:
    """The parts of a Markdown text, by the name of their `##` heading ("" before the first)."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return [
        (part.partition("\n")[0].removeprefix("## ") if part.startswith("## ") else "", part)
        for part in parts
    ]


def turned(text: str, source: str, here: str, files: Files) -> str:
    """A text whose links are relative to the file `source`, with links relative to page `here`."""

    def link(found: re.Match[str]) -> str:
        mark, label, target, anchor = found.groups(default="")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = OUTSIDE.get(there, there.removeprefix("docs/"))
        if page == "decisions":
            page = DECISIONS
        if files.get_file_from_path(page) is None:
            if (ROOT / there).exists():
                return label
            return found[0]  # broken: mkdocs reports it
        if label == target and there.endswith(".md"):
            label = title(ROOT / there)
        return f"{mark}[{label}]({posixpath.relpath(page, posixpath.dirname(here))}{anchor})"

    return _LINK.sub(link, text)


def help_block(path: str) -> str:
    """The help of the command `memcram PATH`, as a block that opens."""
    context = click.Context(cli, info_name="memcram", max_content_width=88, terminal_width=88)
    command: click.Command = cli
    for name in path.split():
        assert isinstance(command, click.Group), path
        command = command.commands[name]
        context = click.Context(
            command, context, info_name=name, max_content_width=88, terminal_width=88
        )
    text = command.get_help(context).replace("\n", "\n    ")
    name = f"memcram {path}".strip()
    return f'??? info "`{name} --help`"\n\n    ```text\n    {text}\n    ```\n'
