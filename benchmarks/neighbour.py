"""Does it help to begin at the vectors of the chunk before?

    python benchmarks/neighbour.py BOOKS -o benchmarks/results/neighbour.json

A stretch of a book is halved. The first half grows from the recipe's own start; the second grows
from its own start, and once more from the vectors that hold the first, with a fresh optimiser and
the same budget. What the first half cost is not counted: a compression has these vectors anyway.
"""

from typing import Any

from arena.command import Setting, begins_from_vectors, staged
from arena.stages import exact_tokens, grow, line_of, show


@staged(recipe="direct", vectors=1, samples=12, max_tokens=128, budget=6000)
def main(setting: Setting) -> dict[str, Any]:
    """Compare on TEXTS (files, or folders of .txt), books for choosing."""
    lm, terms, recipe = setting.lm, setting.terms, setting.entry.recipe
    begins_from_vectors(lm, setting.entry)
    halves = [ids.tensor_split(2) for ids in setting.ids]
    before = grow(lm, recipe, [first for first, _ in halves], terms)
    ids = [second for _, second in halves]
    fresh = grow(lm, recipe, ids, terms)
    moved = grow(lm, recipe, ids, terms, before)
    own = exact_tokens(lm, fresh, ids)
    lines = [
        show(line_of("from the recipe's start", own, own, fresh)),
        show(line_of("from the neighbour", exact_tokens(lm, moved, ids), own, moved)),
    ]
    return {"lines": lines}


if __name__ == "__main__":
    main()
