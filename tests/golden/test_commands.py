"""What each command reports as JSON, its options, and its exit codes."""

import json

import pytest

from golden import frozen
from golden.frozen import PAGES, REPORTS, arguments_of, expected, run

# Stores that the commands are run on.
NEEDED = ["capacity", "horizon", "broken-off"]


def check_report(name, words, free):
    report = run(*arguments_of(words), "--json").report
    assert frozen.as_text(frozen.masked(report, free)) == expected(f"{name}.json")


@pytest.mark.parametrize("name", REPORTS)
def test_report(name, bring):
    bring(*NEEDED)
    check_report(name, *REPORTS[name])


# pandas warns where a column has no value at all.
@pytest.mark.filterwarnings("ignore:.*as a fill value:DeprecationWarning")
@pytest.mark.parametrize("name", PAGES)
def test_report_with_figures(name, stage, bring):
    bring(*NEEDED)
    check_report(name, *PAGES[name])
    assert (stage / "page/index.html").stat().st_size > 10_000


def test_tables(bring):
    bring(*NEEDED)
    assert frozen.tables() == expected("tables.txt")


def test_options():
    found = frozen.all_options()
    for command, names in json.loads(expected("options.json")).items():
        assert found[command] == names, command


ARCHIVE = "exact.mem.safetensors"
WRONG = [
    "",
    "frobnicate",
    "compress",
    "compress none.txt",
    "compress .",
    "compress scene.txt -o none/b",
    f"compress scene.txt -o {ARCHIVE}",
    "compress scene.txt -o b --vectors 0",
    "compress scene.txt -o b --vectors 1025",
    "compress scene.txt -o b --chunk-tokens 0",
    "compress scene.txt -o b --chunk-tokens 1025",
    "compress scene.txt -o b --steps 0",
    "compress scene.txt -o b --seed -1",
    "compress scene.txt -o b --recipe fast",
    "compress scene.txt -o b --recipe kuratov2025",
    "compress scene.txt -o b --recipe default@",
    "compress scene.txt -o b --recipe default@colour=1",
    "compress scene.txt -o b --recipe default@lr=fast",
    "compress scene.txt -o b --dtype float64",
    "compress scene.txt -o b --device tpu",
    "compress scene.txt -o b --model ./none",
    "compress scene.txt -o b --revision x",
    "compress scene.txt -o - --json",
    "compress -",
    "compress empty.txt",
    "compress latin.txt",
    "decompress none.mem.safetensors",
    "decompress scene.txt",
    f"decompress {ARCHIVE} -o scene.txt",
    f"decompress {ARCHIVE} -o b --model ./none",
    "inspect none",
    "inspect .",
    "verify none",
    "verify",
    "explain none -o b",
    f"explain {ARCHIVE}",
    f"explain {ARCHIVE} text -o b",
    "explain capacity.study none -o b",
    "horizon none.txt",
    "horizon scene.txt --samples 0",
    "horizon scene.txt --max-tokens 5000",
    "plan none.txt",
    "plan scene.txt --samples 1",
    "bound ./none",
    "bound --bits 0",
    "bound --bits nan",
    "study run none.toml",
    "study run wrong.toml",
    "study run capacity.study --store other.study",
    "study run books",
    "study status none.study",
    "study status books",
    "study export capacity.study",
    "study export none.study -o b",
    "study export capacity.study -o none/",
    "study report -o page",
    "study report capacity.study --published -o page",
    "study new",
    "study new pocket -o capacity.toml",
    "study new pocket --scale 0",
    "study frobnicate",
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """The fixtures, and files that are wrong; nothing is written there."""
    folder = frozen.set_stage(tmp_path_factory.mktemp("ground"), NEEDED)
    (folder / "empty.txt").write_bytes(b"")
    (folder / "latin.txt").write_bytes(b"caf\xe9 noir")
    (folder / "wrong.toml").write_text('name = "wrong"\ncolour = 1\n')
    data = (folder / ARCHIVE).read_bytes()
    middle = len(data) - 40
    damaged = {
        "nothing": b"",
        "short": data[:-1],
        "long": data + b"\0",
        "foreign": b"PK\x03\x04" + data,
        "header": data[:60] + bytes([data[60] ^ 1]) + data[61:],
        "tensor": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
    }
    for name, content in damaged.items():
        (folder / f"{name}.bad.mem.safetensors").write_bytes(content)
    return folder


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def untouched(ground, monkeypatch):
    monkeypatch.chdir(ground)
    before = contents(ground)
    yield ground
    assert contents(ground) == before


def refused(line, code):
    ran = run(*line.split())
    assert (ran.code, ran.out) == (code, b""), ran.err
    if line:
        assert ran.err.startswith("memcram: ")
        assert ran.err.count("\n") == 1


@pytest.mark.parametrize("line", WRONG)
def test_wrong_use_is_2(line, untouched):
    refused(line, 2)


@pytest.mark.parametrize("damage", ["nothing", "short", "long", "foreign", "header", "tensor"])
@pytest.mark.parametrize("command", ["inspect", "verify", "decompress", "explain -o page.html"])
def test_a_damaged_archive_is_3(command, damage, untouched):
    refused(f"{command} {damage}.bad.mem.safetensors", 3)


@pytest.mark.parametrize("command", ["verify", "decompress -o b"])
def test_another_model_is_3(command, untouched):
    refused(f"{command} {ARCHIVE} --model lossy", 3)


def test_success_is_0(untouched):
    for line in ("--help", "--version", "study --help", "bound", "study status capacity.study"):
        ran = run(*line.split())
        assert (ran.code, ran.err) == (0, "")
        assert ran.out
