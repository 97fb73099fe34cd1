"""Render templates as HTML: all text is escaped, data cannot end its script element."""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup, escape


def script_json(content: Any) -> Markup:
    """JSON for a script element: ASCII only, and nothing that HTML could read as a tag.

    >>> script_json("</script>")
    Markup('"\\\\u003c/script\\\\u003e"')
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def is_missing(value: Any) -> bool:
    """Whether a value is None or not finite: not measured, or not printed."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def figure_of(value: Any, digits: int = 3) -> str:
    """Format a number with thousands separators and significant digits, `–` for none.

    >>> figure_of(1234.5), figure_of(0.01234), figure_of(None), figure_of(2.0)
    ('1,234', '0.0123', '–', '2')
    """
    if is_missing(value):
        return "–"
    whole = float(value) == int(value) or abs(value) >= 10 ** (digits - 1)
    return (f"{value:,.0f}" if whole else f"{value:,.{digits}g}").replace("-", "−")


def capacity_of(row: Mapping[str, Any]) -> str:
    """Format a decoding capacity with the next length, which failed, in parentheses."""
    most, following = row["max_tokens"], row["next_tokens"]
    if is_missing(most):
        return "–" if is_missing(following) else f"< {figure_of(following)}"
    if row["published"]:
        return figure_of(most)
    if is_missing(following):
        return f"≥ {figure_of(most)}"
    return f"{figure_of(most)} ({figure_of(following)})"


def pretty(content: Any) -> str:
    """Settings as text: strings of several lines stay as they are, the rest is JSON."""
    if not isinstance(content, Mapping):
        return json.dumps(content, indent=2, ensure_ascii=False, default=str)
    parts = []
    for name, value in content.items():
        shown = value.strip() if isinstance(value, str) else pretty([value])[2:-2].strip()
        parts.append(f"# {name}\n{shown}")
    return "\n\n".join(parts)


def faint_signs(text: str) -> Markup:
    """Wrap the signs for white space in a token's text in <i> elements."""
    escaped = str(escape(text))
    for sign in "␣⏎⇥":
        escaped = escaped.replace(sign, f"<i>{sign}</i>")
    return Markup(escaped)


def breakable(name: str) -> Markup:
    """Let a long name break after a comma and before an option or a variant.

    >>> breakable("direction@k=2")
    Markup('direction<wbr>@k=2')
    """
    pieces = re.split(r"(?<=[,/])|(?=[@+])", name)
    return Markup("<wbr>").join(escape(piece) for piece in pieces)


@cache
def _environment(package: str) -> jinja2.Environment:
    shared = jinja2.PackageLoader("memcram.report")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), shared]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = script_json
    environment.filters["faint_signs"] = faint_signs
    environment.filters["figure"] = figure_of
    environment.filters["breakable"] = breakable
    environment.filters["capacity"] = capacity_of
    environment.filters["pretty"] = pretty
    environment.filters["short_heading"] = lambda heading: heading.partition(" (")[0]
    environment.tests["missing"] = is_missing
    return environment


def render(template: str, package: str = "memcram.report", **values: Any) -> bytes:
    """Render a template as UTF-8; characters that HTML forbids become U+FFFD.

    Args:
        template: its name, in the package's folder `templates` or in that of the report.
        package: whose template it is.
        values: what the template uses.
    """
    text = _environment(package).get_template(template).render(**values)
    return text.translate(_FORBIDDEN).encode("utf-8", "replace")


_FORBIDDEN = {code: "\ufffd" for code in range(32) if chr(code) not in "\t\n\f\r"}
