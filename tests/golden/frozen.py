"""What the golden tests share: where the fixtures are, and how a command is run on them.

The golden tests know memcram by its command line, by the public names of `memcram` and by the
documented files alone, so that they stay as they are when the code inside moves.
"""

import contextlib
import csv
import inspect
import io
import json
import shutil
import signal
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet
import pytest

import memcram
from memcram.cli import main  # the only import of anything but public names

HERE = Path(__file__).parent
STAGE = HERE / "stage"
EXPECTED = HERE / "expected"
# Placeholder for a measured value that differs from machine to machine.
ANY = "*"

# Name of the text, and the model that decodes it, by the name of the archive.
ARCHIVES = {
    "exact": ("scene.txt", "pocket"),
    "pairs": ("scene.txt", "pocket"),
    "corrected": ("scene.txt", "pocket"),
    "half": ("scene.txt", "pocket"),
    "direct": ("scene.txt", "pocket"),
    "raw": ("odd.txt", "lossy"),
    "blank": ("blank.txt", "lossy"),
    "packed": ("scene.txt", "pocket"),
}
SPECS = ["capacity", "horizon", "context", "repeat", "seeds", "depth", "recipes", "shared-map"]
# "recipes-before" was made when tarasov2026+low-dim shared W and b, "capacity-before" when
# `default` was today's `low-dim`.
STORES = [*SPECS, "broken-off", "recipes-before", "capacity-before"]
# Columns of a row that are known before anything is measured.
_DECIDED = (
    "task study kind condition model revision fingerprint parameters layers width vocab_size "
    "max_positions recipe dtype layout first_token_given bos_in_text source text_id origin offset "
    "length vectors seed"
)
DECIDED = _DECIDED.split()

VARIANTS = [
    "default@tau=0.1,lr=0.5",
    "default@tau=0.3,horizon.patience=50",
    "default@objective=CrossEntropy",
    "default@objective=HingeMargin",
    "default@betas=[0.9,0.99]",
    "default@parametrisation=Direct,start=NormalStart",
    'default@{"objective": {"kind": "HingeMargin", "tau": 0.5}}',
    "default@first_token_given=true",
    "direct@strategy.steps=50,strategy.margin=0.5",
    "direct@horizon=Progressive",
    "kuratov2025@lr=0.1,bos_in_text=false",
    "kuratov2025+t1@patience=10",
    "tarasov2026@lr=0.5",
    "tarasov2026+low-dim@k=32",
    "tarasov2026+low-dim@group_size=4,in_group=true",
    "tarasov2026+low-dim@in_group=true,group_size=10",
    "tarasov2026@temperature=0.25,lr=1",
    "tarasov2026+low-dim@k=256,lr=0.1,temperature=0.25",
]


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def report(self):
        """The JSON object on standard output; the order of its fields is kept."""
        assert self.code == 0, self.err
        assert self.out.count(b"\n") == 1
        return json.loads(self.out)


def run(*arguments):
    """Run a command of memcram in this process."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.StringIO()
    before, code = signal.getsignal(signal.SIGINT), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([str(one) for one in arguments])
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        signal.signal(signal.SIGINT, before)
    return Ran(code, out.buffer.getvalue(), err.getvalue())


def set_stage(folder, stores=()):
    """Copy the fixtures, but of the stores only those named, to a folder that tests may write."""
    left_out = [f"{name}.study" for name in STORES if name not in stores]
    return shutil.copytree(
        STAGE, folder, ignore=shutil.ignore_patterns(*left_out), dirs_exist_ok=True
    )


def masked(value, names):
    """A report with `ANY` for the fields called so, wherever they stand but in settings.

    Of plans the fields' names are left, of other numbers nine digits.
    """
    if isinstance(value, dict):
        found = {}
        for key, one in value.items():
            if key in names:
                found[key] = ANY
            elif key == "plans":
                found[key] = shape(masked(one, names))
            else:
                found[key] = one if key == "settings" else masked(one, names)
        return found
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, list):
        return [masked(one, names) for one in value]
    return value


def as_text(value):
    """JSON text; equal only if the order of the fields is equal too."""
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def expected(name):
    """The frozen text of that name."""
    return (EXPECTED / name).read_text("utf-8")


def tasks(store):
    """Id of every task of a store in the spec's order, from the documented tables."""
    with contextlib.closing(sqlite3.connect(store / "store.sqlite")) as db:
        found = db.execute("SELECT id FROM tasks WHERE in_spec ORDER BY model, place").fetchall()
    return [one for (one,) in found]


def layout(store):
    """Version, and the columns of each table, of a store."""
    with contextlib.closing(sqlite3.connect(store / "store.sqlite")) as db:
        numbers = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        }
        columns = {
            table: [list(one[1:4]) for one in db.execute(f"PRAGMA table_info({table})")]
            for table in ("meta", "runs", "tasks", "rows")
        }
    return numbers | columns


def exported(store, folder):
    """The CSV of a store's rows."""
    assert run("study", "export", store, "-o", folder / "table", "--force").code == 0
    return (folder / "table.csv").read_text("utf-8")


def schema(table):
    """Name, type, and whether it may be empty, of each column of a Parquet file."""
    return [[one.name, str(one.type), one.nullable] for one in pyarrow.parquet.read_schema(table)]


def rows_of(table):
    """The rows of a CSV as dictionaries of text."""
    return list(csv.DictReader(io.StringIO(table)))


def break_off(chunks):
    """Compress long.txt in this folder, interrupted once so many chunks are done."""

    def stop(progress):
        if progress.chunks_done >= chunks:
            raise KeyboardInterrupt

    text, lm = Path("long.txt").read_bytes(), memcram.load_lm("pocket", device="cpu")
    sizes = {"chunk_tokens": 6, "steps": 40}
    with contextlib.suppress(KeyboardInterrupt):
        memcram.compress(text, lm, **sizes, partial=Path("long.partial"), on_progress=stop)


# -- commands -----------------------------------------------------------------------------------

_CPU = ["--device", "cpu"]
_SMALL = [*_CPU, "--model", "lossy", "--steps", "3"]
_MEASURED = ["chunks_exact", "tokens_corrected", "tokens_guarded", "bits_stored", "min_margin"]
_CLOCK = ["seconds", "gzip_bytes", "xz_bytes"]  # sizes depend on the version of the zip library

_SPREAD = ["mean_tokens", "std_tokens", "ci95_tokens"]

# Arguments of each command (`--json` is added), and the fields whose values are not frozen.
REPORTS = {
    "compress": (
        ["compress", "odd.txt", "-o", "new.mem.safetensors", "--chunk-tokens", "16", *_SMALL],
        [*_CLOCK, *_MEASURED],
    ),
    "decompress": (["decompress", "corrected.mem.safetensors", "-o", "new.txt", *_CPU], _CLOCK),
    "inspect": (["inspect", "corrected.mem.safetensors"], []),
    "inspect-raw": (["inspect", "raw.mem.safetensors"], []),
    "inspect-blank": (["inspect", "blank.mem.safetensors"], []),
    "inspect-half": (["inspect", "half.mem.safetensors"], []),
    "verify": (["verify", "corrected.mem.safetensors", *_CPU], ["min_margin", "max_margin_shift"]),
    "verify-raw": (
        ["verify", "raw.mem.safetensors", "--model", "lossy", *_CPU],
        ["min_margin", "max_margin_shift"],
    ),
    "verify-blank": (["verify", "blank.mem.safetensors", "--model", "lossy", *_CPU], []),
    "horizon": (
        ["horizon", "scene.txt", "--samples", "3", "--max-tokens", "6", *_SMALL],
        [
            *_SPREAD,
            "censored",
            "token_steps",
            "budget_ended",
            "mean_bits_per_dimension",
            "seconds",
            "horizon",
            "steps",
            "min_margin",
            "lm_nats",
            "bits_per_dimension",
        ],
    ),
    "plan": (
        ["plan", "scene.txt", "--samples", "2", "-K", "1", "-K", "2", *_SMALL],
        ["planning_seconds", "ci95"],
    ),
    "bound": (["bound"], []),
    "bound-8": (["bound", "pocket", "lossy", "EleutherAI/pythia-160m", "--bits", "8"], []),
    "models": (["models"], []),
    "explain-archive": (["explain", "exact.mem.safetensors", "-o", "a.html", *_CPU], []),
    "explain-store": (["explain", "capacity.study", "{task}", "-o", "b.html"], []),
    "study-new": (["study", "new", "pocket", "-o", "new.toml"], []),
    "study-list": (["study", "new", "--list"], []),
    "study-dry-run": (["study", "run", "capacity.toml", "--dry-run"], []),
    "study-status": (["study", "status", "capacity.study"], []),
    "study-status-broken-off": (["study", "status", "broken-off.study"], []),
    "study-run": (["study", "run", "capacity.toml", *_CPU], []),
    "study-export": (["study", "export", "capacity.study", "horizon.study", "-o", "rows"], []),
}
# The same for pages with figures.
PAGES = {
    "study-report": (["study", "report", "capacity.study", "broken-off.study", "-o", "page"], []),
    "study-report-published": (["study", "report", "--published", "-o", "page"], []),
}
# Commands whose tables for people are frozen.
TABLES = [
    "inspect corrected.mem.safetensors",
    "inspect blank.mem.safetensors",
    "bound pocket EleutherAI/pythia-160m",
    "models",
    "study new --list",
    "study run recipes.toml --dry-run",
    "study status broken-off.study",
]
COMMANDS = [
    *([name] for name in ["compress", "decompress", "inspect", "verify", "explain"]),
    *([name] for name in ["horizon", "plan", "bound", "models", "study", "push", "pull", "ui"]),
    *(["study", name] for name in ["new", "run", "status", "export", "report"]),
]


def arguments_of(words):
    """The words of a command on the stage, with the first task's id where one is wanted."""
    first = tasks(STAGE / "capacity.study")[0]
    return [word.replace("{task}", first) for word in words]


def shape(value):
    """Names and nesting alone: numbers, texts and nulls are `ANY`; equal items count once."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        shapes = [shape(one) for one in value]
        return [one for i, one in enumerate(shapes) if one not in shapes[:i]]
    return ANY


def options(command):
    """The options that a command's help lists."""
    found = []
    listed = run(*command, "--help").out.decode().partition("\nOptions:\n")[2]
    for line in listed.splitlines():
        words = line.replace(",", " ").split()
        if line.startswith("  -") and words:
            found += [word for word in words[:2] if word.startswith("-")]
    return found


def tables():
    """What people see of some commands, on a screen of 100 columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100")
        return "".join(f"$ memcram {one}\n{run(*one.split()).out.decode()}\n" for one in TABLES)


def all_options():
    """Options by command."""
    return {" ".join(command): options(command) for command in COMMANDS}


# -- recipes, specs, names -------------------------------------------------------------------------


def settings():
    """All settings of each recipe and variant."""
    return {name: memcram.get_recipe(name).settings() for name in [*memcram.RECIPES, *VARIANTS]}


def _named():
    return [one["name"] for one in run("study", "new", "--list", "--json").report["studies"]]


def specs():
    """What `study new` writes for each named study, some of them shrunk, and for other models."""
    scales = {"pythia-160m": "0.1", "pocket": "0.2"}
    wanted = {f"new-{name}": [name] for name in [*_named(), "pocket", "./lossy"]}
    wanted |= {f"new-{name}-shrunk": [name, "--scale", s] for name, s in scales.items()}
    texts = {}
    for key, words in wanted.items():
        ran = run("study", "new", *words, "-o", "-")
        assert ran.code == 0, ran.err
        texts[key.replace("./", "")] = ran.out.decode()
    return texts


def grids():
    """The cells of each named study, as `--dry-run` counts them; writes specs to this folder."""
    found = {}
    for name in _named():
        assert run("study", "new", name, "-o", "grid.toml", "--force").code == 0
        found[name] = run("study", "run", "grid.toml", "--dry-run", "--json").report
    return found


def public():
    """The public names of memcram, and how its functions are called."""
    functions = "capacity_bound compress cram decompress get_recipe load_lm packaged_models verify"
    calls = {}
    for name in functions.split():
        parameters = inspect.signature(getattr(memcram, name)).parameters.values()
        calls[name] = [
            [one.name, one.kind.name, None if one.default is one.empty else repr(one.default)]
            for one in parameters
        ]
    errors = {
        name: [getattr(memcram, name).exit_code, issubclass(getattr(memcram, name), Exception)]
        for name in ("MemcramError", "ArchiveError", "ModelError", "TextError", "UsageError")
    }
    return {"names": list(memcram.__all__), "calls": calls, "errors": errors}


def tensors():
    """Name, dtype and number of axes of each tensor in the files of the stage."""
    found = {}
    for pattern in ("exact.mem.safetensors", "long.partial/*.safetensors"):
        for path in STAGE.glob(pattern):
            found[pattern] = header(path)
    for name in ("capacity", "seeds"):
        path = STAGE / f"{name}.study/vectors/{tasks(STAGE / f'{name}.study')[0]}.safetensors"
        found[name] = header(path)
    return found


def header(path):
    """Name, dtype and number of axes of each tensor of a safetensors file, from its header."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + length])
    names = sorted(set(content) - {"__metadata__"})
    return [[name, content[name]["dtype"], len(content[name]["shape"])] for name in names]
