"""Cram the texts of the gallery of `memcram ui` into archives.

    python examples/make_gallery.py [NAME...]

Texts whose model has another name than `pocket` need its file in the working directory.
"""

import sys
import tomllib
from pathlib import Path

import memcram

GALLERY = Path(__file__).parents[1] / "src/memcram/data/gallery"


def main(names: list[str]) -> None:
    for entry in tomllib.loads((GALLERY / "gallery.toml").read_text("utf-8"))["text"]:
        if names and entry["name"] not in names:
            continue
        text = (GALLERY / entry["name"]).with_suffix(".txt").read_bytes()
        lm = memcram.load_lm(entry["model"], device="cpu")
        archive = memcram.compress(text, lm)
        assert memcram.decompress(archive, lm) == text
        archive.write(GALLERY / f"{entry['name']}.mem.safetensors", force=True)
        print(entry["name"], archive.summary())


if __name__ == "__main__":
    main(sys.argv[1:])
