"""Make the fixtures of the golden tests; they were made with memcram at commit 0a53f79.

    python tests/golden/make.py

Everything is rewritten: `stage/`, a folder as a user may have it, with texts, a small model,
archives, an interrupted compression, specs and stores; and `expected/`, what the commands say of
it. The tests compare later code with these files, so make them again only where a change of format
or behaviour is meant, and read what `git diff` then shows. Old archives and stores must still open:
add new ones next to them instead of replacing them.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import small_texts
import tiny
from golden import frozen
from golden.frozen import EXPECTED, STAGE, run

SCENE = "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late.\n"
LONG = SCENE * 3
ODD = (
    "  MARTA counted the Boats twice; ÉLAN \u0130 \ufb01n\n\n\tThe twelfth was Her Brother's.\r\n "
)
TEXTS = {"scene.txt": SCENE, "odd.txt": ODD, "blank.txt": " \n\t ", "long.txt": LONG}

ARCHIVES = {
    "exact": ["--steps", "400"],
    "pairs": ["-K", "2", "--chunk-tokens", "16", "--steps", "60"],
    "corrected": ["--chunk-tokens", "12", "--steps", "8"],
    "half": ["--chunk-tokens", "12", "--steps", "40", "--dtype", "bfloat16"],
    "direct": ["--chunk-tokens", "12", "--steps", "30", "--recipe", "direct@tau=0.3"],
    "raw": ["--chunk-tokens", "24", "--steps", "40"],
    "blank": ["--steps", "1"],
    "packed": ["--steps", "60", "--store", "least"],
}

BOOKS = """
[[texts]]
name = "books"
source = "books"
path = "books"
min_words = 240
max_words = 520
"""
WORDS = """
[[texts]]
name = "words"
source = "random-words"
words = 60
"""
SPECS = {
    "capacity": ("pocket", "lengths = [4, 7]\nvectors = [1, 2]\nsamples = 2\nsteps = 6", WORDS),
    "horizon": ("pocket", "lengths = [12]\nsamples = 3\nsteps = 20", BOOKS),
    "context": ("lossy", "lengths = [4, 7]\nsamples = 2\nsteps = 4\ncontexts = [3, 12]", BOOKS),
    "repeat": ("lossy", "lengths = [4, 7]\nsamples = 2\nsteps = 4\nseed = 5", BOOKS),
    "seeds": ("lossy", "lengths = [5]\nsamples = 2\nsteps = 6\nstarts = 2", BOOKS),
    "depth": ("lossy", "lengths = [6]\nsamples = 2\nsteps = 4\nlayers = [1, 2]", BOOKS),
}
# Every recipe and every source that needs no hub, in one grid.
RECIPES_SPEC = """\
name = "recipes"
kind = "capacity"
models = ["pocket", {id = "lossy", layout = "mem+bos"}]
recipes = [
  "default",
  "direct@tau=0.3",
  "kuratov2025",
  "kuratov2025+t1",
  "tarasov2026",
  "tarasov2026+low-dim@k=4",
]
lengths = [5]
samples = 1
steps = 3
seed = 11

[[texts]]
name = "files"
source = "files"
path = ["long.txt"]
passage_chars = 80

[[texts]]
name = "fanfics"
source = "fanfics"
path = "books"
min_words = 240
max_words = 520

[[texts]]
name = "words"
source = "random-words"
words = 40
top = 500
lengths_up_to = 9
samples = 2
"""
# The published batches, whose texts share W and b.
SHARED_MAP_SPEC = f"""\
name = "shared-map"
kind = "capacity"
models = ["lossy"]
recipes = ["tarasov2026+low-dim@k=4,in_group=true,group_size=2"]
lengths = [5]
samples = 3
steps = 3
{WORDS}"""
BROKEN_OFF = SPECS["capacity"][1].replace("steps = 6", "steps = 5")


def spec(name, kind):
    """A study of one kind."""
    model, keys, texts = SPECS[kind]
    keys = BROKEN_OFF if name == "broken-off" else keys
    return f'name = "{name}"\nkind = "{kind}"\nmodels = ["{model}"]\n{keys}\n{texts}'


def main():
    """Make all of it."""
    for folder in (STAGE, EXPECTED):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    os.chdir(STAGE)
    make_inputs()
    make_archives()
    make_partial()
    make_stores()
    make_expected()


def make_inputs():
    """Texts, specs, and a model of 20 kB whose tokenizer does not round-trip."""
    for name, text in TEXTS.items():
        Path(name).write_bytes(text.encode())
    Path("books").mkdir()
    Path("books/one.txt").write_text(small_texts.book("one", 60), encoding="utf-8")
    work = small_texts.saved_work("two", small_texts.book("two", 60))
    Path("books/two.html").write_text(work, encoding="utf-8")
    config = tiny.llama_config(hidden_size=12, intermediate_size=16, initializer_range=0.05)
    tiny.save_model(Path("lossy"), config, tiny.byte_tokenizer(lower_and_strip=True))
    for kind in SPECS:
        Path(f"{kind}.toml").write_text(spec(kind, kind))
    Path("broken-off.toml").write_text(spec("broken-off", "capacity"))
    Path("recipes.toml").write_text(RECIPES_SPEC)
    Path("shared-map.toml").write_text(SHARED_MAP_SPEC)


def make_archives():
    """One of each sort."""
    for name, (text, model) in frozen.ARCHIVES.items():
        target = f"{name}.mem.safetensors"
        words = ["--model", model, "--device", "cpu", "-o", target, "--json", *ARCHIVES[name]]
        assert run("compress", text, *words).code == 0


def make_partial():
    """A compression that was interrupted in the middle; `test_resume` goes on with it."""
    frozen.break_off(9)
    Path("long.partial/lock").unlink()


def make_stores():
    """A finished study of each kind, and one that was killed after three of its texts."""
    for name in frozen.STORES:
        limit = ["--limit", "3"] if name == "broken-off" else []
        words = ["--device", "cpu", "--json", *limit]
        assert run("study", "run", f"{name}.toml", *words).code == 0
        folder = Path(f"{name}.study")
        (folder / "lock").unlink()
        with contextlib.closing(sqlite3.connect(folder / "store.sqlite")) as db:
            # Nothing of the machine; relative paths start where the tests work.
            db.execute("UPDATE meta SET value = '.' WHERE key = 'spec_folder'")
            for number, text in db.execute("SELECT id, settings FROM runs").fetchall():
                settings = json.dumps(json.loads(text) | {"platform": "Linux"}, sort_keys=True)
                db.execute("UPDATE runs SET pid = 1, settings = ? WHERE id = ?", (settings, number))
            if limit:  # what a kill leaves
                db.execute("UPDATE runs SET outcome = 'running'")
            db.commit()
            db.execute("VACUUM")


def make_expected():
    """What today's commands say of all that."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(frozen.set_stage(place, frozen.STORES))
        write("tables.txt", frozen.tables())
        for name in frozen.STORES:
            write(f"{name}.csv", frozen.exported(Path(f"{name}.study"), Path()))
            if name == "capacity":
                write("parquet.json", frozen.as_text(frozen.schema("table.parquet")))
            write(f"{name}.tasks.json", frozen.as_text(frozen.tasks(Path(f"{name}.study"))))
        for name, text in frozen.specs().items():
            write(f"{name}.toml", text)
        for name, (words, free) in (frozen.REPORTS | frozen.PAGES).items():
            shutil.rmtree("page", ignore_errors=True)
            ran = run(*frozen.arguments_of(words), "--json")
            write(f"{name}.json", frozen.as_text(frozen.masked(ran.report, free)))
        write("grids.json", frozen.as_text(frozen.grids()))
    write("settings.json", frozen.as_text(frozen.settings()))
    write("options.json", frozen.as_text(frozen.all_options()))
    write("public.json", frozen.as_text(frozen.public()))
    write("layout.json", frozen.as_text(frozen.layout(STAGE / "capacity.study")))
    write("tensors.json", frozen.as_text(frozen.tensors()))


def write(name, text):
    """Keep an expected text."""
    (EXPECTED / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
