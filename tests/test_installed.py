"""Wheel and sdist, built and installed in empty environments, and each extra used once.

Needs a package index. Torch is installed once; the environments of the sdist and of the extras see
that one's packages, but not each other's.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TEXT = "The ferry was late, and nobody had lit the lamp.\n"
MAX_WHEEL_BYTES = 20_000_000
SPEC = """
name = "tiny"
models = ["pocket"]
lengths = [3]
samples = 2
steps = 20
texts = [{ name = "words", source = "random-words" }]
"""
# Runs with the modules that write tiny GGUF files for the tests.
WRITE_GGUF = "import sys, gguf_files; gguf_files.write(gguf_files.Path(sys.argv[1]))"
SAMPLE_DATASET = """
import memcram
lm = memcram.load_lm("pocket", device="cpu")
source = memcram.texts.make_source("hub-chunks", dataset="chunks")
print(*(one.origin for one in source.sample(lm.tokenize, samples=2, n_tokens=5)))
"""
ROWS = "text\n" + 3 * (20 * "The boat had left the quay. " + "\n")


class Environment:
    """A virtual environment, and a working folder outside of the source tree."""

    def __init__(self, folder, base=None):
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.folder = folder
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        [self.packages] = (folder / "venv").glob("**/site-packages")
        if base:
            (self.packages / "base.pth").write_text(f"{base.packages}\n")

    def install(self, *requirements):
        found = self.run(
            "python",
            "-m",
            "pip",
            "install",
            "-q",
            "--no-compile",
            "-c",
            ROOT / "constraints.txt",
            *requirements,
        )
        assert found.returncode == 0, found.stderr

    def remove(self):
        """Delete the installed packages, which take more than a gigabyte with torch."""
        shutil.rmtree(self.folder / "venv")

    def python(self, *arguments, paths=()):
        """Run Python, and return what it printed."""
        found = self.run("python", *arguments, paths=paths)
        assert found.returncode == 0, found.stderr
        return found.stdout

    def memcram(self, *arguments, code=0):
        """Run the command, and return what it printed: on stderr, if it is to fail."""
        found = self.run("python", "-m", "memcram", *arguments)
        assert found.returncode == code, found.stderr
        return found.stderr if code else found.stdout

    def round_trip(self, *options):
        """Cram a text and restore it."""
        (self.folder / "a.txt").write_text(TEXT)
        archive = "a.txt.mem.safetensors"
        self.memcram("compress", "a.txt", "--device", "cpu", "--force", *options)
        assert self.memcram("decompress", archive, "-o", "-", *options[:2]) == TEXT

    def run(self, command, *arguments, paths=()):
        """Run a command to its end."""
        process = self.start(command, *arguments, paths=paths)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, command, *arguments, paths=()):
        """Start a command."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if paths:
            kept["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        return subprocess.Popen(
            [self.bin / command, *arguments],
            cwd=self.folder,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist of this tree."""
    builder = Environment(tmp_path_factory.mktemp("builder"))
    probe = builder.run("python", "-m", "pip", "install", "-q", "hatchling", "hatch-vcs")
    if probe.returncode:
        pytest.skip(f"no package index: {probe.stderr.strip().splitlines()[-1]}")
    out = builder.folder / "dist"
    subprocess.run(
        [builder.bin / "python", "-m", "hatchling", "build", "-d", out],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def base(built, tmp_path_factory):
    """An environment with the wheel, without any extra."""
    wheel, _ = built
    environment = Environment(tmp_path_factory.mktemp("base"))
    # First alone, so that a build for the CPU is preferred where the index has one.
    environment.install("torch")
    environment.install(wheel)
    yield environment
    environment.remove()


@pytest.fixture
def overlay(base, tmp_path):
    environment = Environment(tmp_path, base)
    yield environment
    environment.remove()


def with_extra(environment, built, extra):
    wheel, _ = built
    environment.install(f"memcram[{extra}] @ {wheel.as_uri()}")


def test_wheel(built):
    wheel, _ = built
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "memcram",
        f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info",
    }
    assert "memcram/py.typed" in names
    assert "memcram/models/pocket/model.safetensors" in names
    source = ROOT / "src"
    for folder in ("data/gallery", "report/templates", "ui/templates"):
        files = {
            path.relative_to(source).as_posix() for path in (source / "memcram" / folder).iterdir()
        }
        assert files
        assert files <= set(names)


def test_sdist_has_what_its_tests_read(built):
    _, sdist = built
    with tarfile.open(sdist) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("not a git clone")
    files = set(tracked.stdout.splitlines())
    left_out = {name.partition("/")[0] for name in files - names}
    assert left_out <= {".ci", ".github", ".pre-commit-config.yaml"}


def test_wheel_alone(built, base):
    wheel, _ = built
    shown = base.run("memcram", "--version")
    assert shown.stdout == f"memcram {wheel.name.split('-')[1]}\n"
    where = base.python("-c", "import memcram; print(memcram.__file__)")
    assert Path(where.strip()).is_relative_to(base.packages)
    base.round_trip()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["study", "export", "tiny.study", "-o", "tiny"], "study"),
        (["compress", "a.txt", "--model", "tiny.gguf", "-o", "b"], "gguf"),
        (["ui", "--port", "0"], "ui"),
        (["study", "run", "tiny.toml", "--backend", "ray", "--workers", "2"], "ray"),
        (["compress", "a.txt", "--backend", "ray", "--workers", "2", "-o", "b"], "ray"),
    ],
)
def test_without_an_extra_the_error_names_it(base, arguments, extra):
    (base.folder / "tiny.toml").write_text(SPEC)
    base.memcram("study", "run", "tiny.toml", "-q")
    (base.folder / "tiny.gguf").write_bytes(b"GGUF\x03\0\0\0")
    (base.folder / "a.txt").write_text(TEXT)
    error = base.memcram(*arguments, code=2)
    assert error.count("\n") == 1
    assert f"memcram[{extra}]" in error


def test_sdist(built, overlay):
    _, sdist = built
    overlay.install("--no-deps", "--force-reinstall", sdist)
    where = overlay.python("-c", "import memcram; print(memcram.__file__)")
    assert Path(where.strip()).is_relative_to(overlay.packages)
    assert overlay.memcram("--version") == f"memcram {sdist.name[8:-7]}\n"
    overlay.round_trip()


def test_study(built, overlay):
    with_extra(overlay, built, "study")
    (overlay.folder / "tiny.toml").write_text(SPEC)
    overlay.memcram("study", "run", "tiny.toml", "-q")
    overlay.memcram("study", "export", "tiny.study", "-o", "tiny")
    overlay.memcram("study", "report", "tiny.study", "-o", "report")
    assert (overlay.folder / "tiny.parquet").is_file()
    assert (overlay.folder / "report" / "index.html").is_file()


def test_ui(built, overlay):
    with_extra(overlay, built, "ui")
    process = overlay.start("python", "-m", "memcram", "ui", "--port", "0", "--json")
    address = json.loads(process.stdout.readline())["url"]
    with urlopen(address) as page:
        assert b"memcram" in page.read()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


def test_ray(built, overlay):
    with_extra(overlay, built, "ray")
    (overlay.folder / "tiny.toml").write_text(SPEC)
    ray = ["--backend", "ray", "--workers", "2"]
    assert json.loads(overlay.memcram("study", "run", "tiny.toml", *ray, "--json"))["done"] == 2


def test_gguf(built, overlay):
    with_extra(overlay, built, "gguf")
    paths = [ROOT / "tests", ROOT / "tests" / "models"]
    overlay.python("-c", WRITE_GGUF, "tiny.gguf", paths=paths)
    overlay.round_trip("--model", "tiny.gguf", "--steps", "5")


def test_peft(built, overlay):
    with_extra(overlay, built, "peft")
    overlay.round_trip()
    overlay.memcram("export", "peft", "a.txt.mem.safetensors", "-o", "out")
    [code] = re.findall(
        r"^```python\n(.*?)^```", (overlay.folder / "out/README.md").read_text(), re.DOTALL | re.M
    )
    code = code.replace('Path(".")', 'Path("out")')
    assert overlay.python("-c", code) == TEXT + "\n"


def test_datasets(built, overlay):
    with_extra(overlay, built, "datasets")
    (overlay.folder / "chunks").mkdir()
    (overlay.folder / "chunks" / "train.csv").write_text(ROWS)
    assert overlay.python("-c", SAMPLE_DATASET) == "chunks[0] chunks[1]\n"


def test_llama_cpp(built, overlay):
    """Only with a wheel, such as one in a folder of PIP_FIND_LINKS: building takes minutes."""
    probe = overlay.run(
        *("python", "-m", "pip", "install", "-q", "--only-binary", "llama-cpp-python"),
        "llama-cpp-python",
    )
    if probe.returncode:
        pytest.skip("no wheel of llama-cpp-python on the package index")
    with_extra(overlay, built, "llama-cpp")
    paths = [ROOT / "tests", ROOT / "tests" / "models"]
    overlay.python("-c", WRITE_GGUF, "tiny.gguf", paths=paths)
    overlay.round_trip("--model", "tiny.gguf", "--margin", "0.1", "--steps", "300")
    overlay.memcram("export", "llama-cpp", "a.txt.mem.safetensors", "-o", "out")
    assert overlay.python("out/decode.py") == TEXT
