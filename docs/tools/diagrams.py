"""Draw the diagrams of the documentation as SVG files in docs/figures.

Run it after a change; a test fails if the files differ from what it draws.
"""

from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

FIGURES = Path(__file__).parents[1] / "figures"

INK, PAPER, FAINT = "#1f2328", "#ffffff", "#6e7781"
MEM, TEXT, MODEL = "#d8b4fe", "#dbeafe", "#e5e7eb"
CORRECT, WRONG = "#bbf7d0", "#fecaca"

# Measured with `pocket`: one vector of the first 14 tokens of examples/ferry.txt, 240 steps of
# kuratov2025+t1@lr=0.1, seed 0. Nats are under teacher forcing; DECODED is free-running.
TOKENS = ["The", " mist", " was", " already", " thick", " over", " the", " river", " when", " they",
          " reached", " the", " f", "er"]  # fmt: skip
BARE_NATS = [None, 7.5, 6.8, 4.7, 7.9, 8.7, 0.8, 4.8, 5.5, 2.9, 2.7, 0.3, 5.6, 3.6]
BARE_CORRECT = [False] * 6 + [True] + [False] * 4 + [True] + [False] * 2
MEM_NATS = [0.6, 0.9, 0.6, 1.3, 1.4, 1.9, 0.4, 2.3, 3.1, 0.9, 0.7, 0.3, 5.0, 1.7]
MEM_CORRECT = [True] * 8 + [False] + [True] * 3 + [False] + [True]
DECODED = [*TOKENS[:8], ",", " and", " the", " wind", " was", " still"]


@dataclass
class Drawing:
    """An SVG on white paper, so that it is legible on dark pages."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, w: float, h: float, fill: str, dashed: bool = False) -> None:
        """A rectangle with rounded corners."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="5" fill="{fill}" '
            f'stroke="{INK}"{dash}/>'
        )

    def text(
        self, x: float, y: float, text: str, size: int = 15, color: str = INK, start: bool = False
    ) -> None:
        """A line of text, centred at x, or starting there."""
        anchor = "start" if start else "middle"
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """A line through the points, with a head at the last."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        joined = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{INK}" stroke-width="1.5"{dash} '
            'marker-end="url(#head)"/>'
        )

    def svg(self) -> str:
        """The whole file."""
        head = (
            '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker>'
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="sans-serif" role="img">',
            f"<title>{escape(self.title)}</title>",
            f"<defs>{head}</defs>",
            f'<rect width="{self.width}" height="{self.height}" rx="8" fill="{PAPER}"/>',
            *self.parts,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def cramming() -> Drawing:
    """From a text to vectors and back."""
    d = Drawing(860, 330, "Cramming a chunk into one vector, and decoding it")
    d.text(24, 36, "Cramming: only [mem] changes", 17, start=True)
    d.text(454, 36, "Decoding: nothing else is given", 17, start=True)
    for left, decoding in ((24, False), (454, True)):
        _model(d, left, decoding)
    d.parts.append(f'<line x1="430" y1="20" x2="430" y2="310" stroke="{MODEL}" stroke-width="2"/>')
    return d


def _model(d: Drawing, left: int, decoding: bool) -> None:
    words = ["The", "mist", "was", "already"]
    step = 94
    for i in range(len(words) - 1) if decoding else ():
        x = left + 8 + i * step + 84
        d.arrow((x, 91), (x + 5, 91), (x + 5, 257), (x + 10, 257), dashed=True)
    d.box(left, 150, 382, 54, MODEL)
    d.text(left + 191, 183, "frozen language model", 16)
    for i, word in enumerate(words):
        x = left + 8 + i * step
        d.box(x, 74, 84, 34, CORRECT if decoding else PAPER)
        d.text(x + 42, 97, word)
        d.arrow((x + 42, 150), (x + 42, 110))
        d.box(x, 240, 84, 34, TEXT if i else MEM, dashed=decoding and bool(i))
        d.text(x + 42, 263, words[i - 1] if i else "[mem]")
        d.arrow((x + 42, 240), (x + 42, 206))
    if decoding:
        d.text(left + 191, 304, "each decoded token is fed back", 14, FAINT)
    else:
        d.text(left + 191, 66, "loss: is each token of the text the most likely one?", 14, FAINT)
        d.arrow((left + 4, 91), (left - 8, 91), (left - 8, 257), (left + 6, 257), dashed=True)
        d.text(left + 191, 304, "the gradient of the loss moves [mem], step by step", 14, FAINT)


def measures() -> Drawing:
    """The measures of one text, on measured tokens."""
    left, cell, gap = 122, 54, 2
    d = Drawing(left + len(TOKENS) * (cell + gap) + 8, 372, "What is measured, on one text")
    x = [left + i * (cell + gap) for i in range(len(TOKENS))]
    rows = [
        ("text", 24, TOKENS, [TEXT] * len(TOKENS)),
        ("free-running", 96, DECODED, _colours([i < 8 for i in range(len(TOKENS))])),
        ("teacher-forced", 198, _shown(MEM_NATS), _colours(MEM_CORRECT)),
        ("bare LM", 270, _shown(BARE_NATS), _colours(BARE_CORRECT)),
    ]  # fmt: skip
    for name, y, words, colours in rows:
        d.text(12, y + 24, name, start=True)
        for at, word, colour in zip(x, words, colours, strict=True):
            d.box(at, y, cell, 38, colour)
            d.text(at + cell / 2, y + 24, word.strip(), 14)
    d.text(14, 80, "What free-running decoding returns from [mem]: green if it is the token of the "
           "text", 14, FAINT, start=True)  # fmt: skip
    d.arrow((x[0], 148), (x[7] + cell, 148))
    d.text((x[0] + x[7] + cell) / 2, 166, "exact horizon: 8 tokens", 15)
    d.text((x[8] + x[13] + cell) / 2, 166, "after a miss, decoding goes elsewhere", 14, FAINT)
    d.text(14, 190, "Nats of each token, given the true tokens before it: green if it is the most "
           "likely one", 14, FAINT, start=True)  # fmt: skip
    d.text(14, 260, "The same without [mem]", 14, FAINT, start=True)
    right = sum(MEM_CORRECT[1:])
    bare = sum(BARE_CORRECT[1:])
    nats = [sum(n for n in row[1:] if n is not None) for row in (BARE_NATS, MEM_NATS)]
    d.text(14, 338, f"teacher-forced accuracy: {sum(MEM_CORRECT)} of {len(TOKENS)}", 15, start=True)
    d.text(280, 338, f"token gain: {right} − {bare} = {right - bare} tokens", 15, start=True)
    d.text(
        530,
        338,
        f"information gain: {nats[0]:.1f} − {nats[1]:.1f} = {nats[0] - nats[1]:.1f} nats",
        15,
        start=True,
    )
    d.text(280, 359, "both gains over the second token to the last", 14, FAINT, start=True)
    return d


def _shown(nats: list[float | None] | list[float]) -> list[str]:
    return ["–" if one is None else f"{one:.1f}" for one in nats]


def _colours(correct: list[bool]) -> list[str]:
    return [CORRECT if one else WRONG for one in correct]


DIAGRAMS = {"cramming": cramming, "measures": measures}


if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        (FIGURES / f"{name}.svg").write_text(draw().svg(), "utf-8")
