"""The command line: exit codes, one line on stderr, nothing written, clean streams."""

import gzip
import json
import lzma
import struct
import subprocess
import sys

import pytest

import memcram
import tiny
from memcram.cli import cli, run
from memcram.recipes.catalogue import get_recipe

TEXT = "The ferry was late.\n"
COMMANDS = [
    "compress",
    "decompress",
    "inspect",
    "ui",
    "verify",
    "explain",
    "export",
    "import",
    "push",
    "pull",
    "horizon",
    "plan",
    "bound",
    "models",
    "study",
    "completion",
]


@pytest.fixture(scope="module")
def archived(pocket):
    return memcram.compress(TEXT, pocket).to_bytes()


@pytest.fixture
def place(tmp_path, monkeypatch, archived):
    """A working folder with a text and its archive."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "a.txt.mem.safetensors").write_bytes(archived)
    return tmp_path


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def shell(*arguments, stdin=b"", code=0):
    """Run the installed command in a process of its own, streams and all."""
    found = subprocess.run(
        [sys.executable, "-m", "memcram", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert found.returncode == code, found.stderr.decode()
    return found


def refused(capsys, place, *arguments, code=2):
    """One line on stderr, nothing on stdout, nothing written; returns the line."""
    before = contents(place)
    assert run(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert err.startswith("memcram: ")
    assert contents(place) == before
    return err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["compress", "none.txt"], ["none.txt", "does not exist"]),
        (["compress", "."], ["folder"]),
        (["compress", "a.txt", "--vectors", "0"], ["--vectors", "0"]),
        (["compress", "a.txt", "--vectors", "two", "-o", "b"], ["--vectors", "two"]),
        (["compress", "a.txt", "--vectors", "1025", "-o", "b"], ["--vectors", "1025", "1024"]),
        (["compress", "a.txt", "--chunk-tokens", "0"], ["--chunk-tokens", "0"]),
        (["compress", "a.txt", "--chunk-tokens", "1025", "-o", "b"], ["1025", "1024"]),
        (["compress", "a.txt", "--steps", "0"], ["--steps", "0"]),
        (["compress", "a.txt", "--seed", "-1"], ["--seed", "-1"]),
        (["compress", "a.txt", "--seed", "99999999999999999999"], ["--seed"]),
        (["compress", "a.txt", "--recipe", "fast", "-o", "b"], ["fast", "default"]),
        (["compress", "a.txt", "--dtype", "int8", "-o", "b"], ["int8", "float32"]),
        (["compress", "a.txt", "--device", "tpu", "-o", "b"], ["tpu", "cpu"]),
        (["compress", "a.txt", "--model", "./none", "-o", "b"], ["none", "pocket"]),
        (["compress", "a.txt", "--revision", "x", "-o", "b"], ["--revision", "pocket"]),
        (["compress", "a.txt"], ["exists", "--force"]),
        (["compress", "a.txt", "-o", "none/b"], ["none", "does not exist"]),
        (["compress", "a.txt", "-o", "."], ["folder"]),
        (["compress", "a.txt", "-o", "x" * 300], ["x"]),
        (["compress", "-"], ["--output", "TEXT"]),
        (["compress", "a.txt", "-o", "-", "--json"], ["--json"]),
        (["compress", "a.txt", "b.txt"], ["b.txt"]),
        (["compress", "a.txt", "--colour"], ["--colour"]),
        (["compress"], ["TEXT"]),
        (["decompress", "a.txt.mem.safetensors"], ["a.txt", "exists", "--force"]),
        (["decompress", "a.txt.mem.safetensors", "-o", "none/b"], ["none"]),
        (["decompress", "a.txt"], ["--output", "a.txt"]),
        (["decompress", "none.mem.safetensors"], ["none", "does not exist"]),
        (["decompress", "a.txt.mem.safetensors", "-o", "b", "--model", "./none"], ["none"]),
        (["inspect", "none"], ["none", "does not exist"]),
        (["export", "onnx", "a.txt.mem.safetensors", "-o", "b"], ["onnx", "transformers"]),
        (["export", "transformers", "none", "-o", "b"], ["none", "does not exist"]),
        (["export", "transformers", "a.txt.mem.safetensors", "-o", "."], ["--output", "not empty"]),
        (["export", "transformers", "a.txt.mem.safetensors", "-o", "no/b"], ["--output", "no"]),
        (["export", "transformers", "a.txt.mem.safetensors", "-o", "a.txt"], ["not a folder"]),
        (["export", "transformers", "a.txt.mem.safetensors"], ["--output"]),
        (["import", "onnx", ".", "-o", "b"], ["RUNTIME", "onnx", "peft"]),
        (["import", "peft", ".", "-o", "b"], ["DIR", "adapter_config.json"]),
        (["import", "peft", ".", "-o", "a.txt"], ["--output", "a.txt", "exists", "--force"]),
        (["import", "peft", ".", "-o", "none/b"], ["--output", "none"]),
        (["import", "peft", "."], ["--output"]),
        (["inspect", "."], ["folder"]),
        (["verify", "none"], ["none", "does not exist"]),
        (["bound", "./none"], ["none"]),
        (["bound", "pocket", "--bits", "0"], ["--bits", "0"]),
        (["bound", "pocket", "--bits", "nan"], ["--bits", "nan"]),
        (["bound", "--bits", "inf"], ["--bits", "inf"]),
        (["frobnicate"], ["frobnicate"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_wrong_use_is_one_line_and_exit_2(capsys, place, arguments, names):
    line = refused(capsys, place, *arguments)
    for name in names:
        assert name in line


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", ["empty"]),
        (b"caf\xe9 noir", ["not UTF-8", "0xe9", "offset 3"]),
        (b"\xff\xfea\0", ["not UTF-8", "offset 0"]),
    ],
)
def test_a_text_that_is_none(capsys, place, data, names):
    (place / "bad.txt").write_bytes(data)
    line = refused(capsys, place, "compress", "bad.txt")
    for name in ["bad.txt", *names]:
        assert name in line


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGED = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-1],
    "header only": lambda content: content[: 8 + struct.unpack("<Q", content[:8])[0]],
    "flipped header": lambda content: flip(content, 60),
    "flipped tensor": lambda content: flip(content, len(content) - 40),
    "foreign": lambda content: b"PK\x03\x04" + content,
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("command", ["decompress", "inspect", "verify"])
def test_a_damaged_archive_is_exit_3_and_no_output(capsys, place, archived, command, damage):
    name = "d.mem.safetensors"
    (place / name).write_bytes(damage(archived))
    line = refused(capsys, place, command, name, code=3)
    assert name in line


@pytest.mark.parametrize("command", ["decompress", "verify"])
def test_other_weights_are_exit_3(capsys, place, tiny_folder, command):
    output = ["-o", "b.txt"] if command == "decompress" else []
    line = refused(
        capsys,
        place,
        *[command, "a.txt.mem.safetensors", "--model", str(tiny_folder), *output],
        code=3,
    )
    assert "pocket" in line or "256" in line
    assert str(tiny_folder) in line


def test_interruption_is_exit_130_and_writes_nothing(capsys, place, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("memcram.engine.loop.Engine._turn", interrupt)
    before = contents(place)
    assert run(["compress", "a.txt", "-o", "b"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    # click ends the terminal's ^C line first
    assert err.lstrip("\n").startswith("memcram: interrupted")
    assert err.strip().count("\n") == 0
    assert contents(place) == before


def test_a_folder_that_is_not_ours_is_left_alone(capsys, place):
    """`b.partial` is where unfinished chunks would be kept; someone else had the name first."""
    (place / "b.partial").mkdir()
    (place / "b.partial" / "letters.txt").write_text("mine")
    run(["compress", "a.txt", "-o", "b.mem.safetensors"])
    assert (place / "b.partial" / "letters.txt").read_text() == "mine"


def report_of(capsys, *arguments):
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return json.loads(out)


def test_there_and_back_with_json(capsys, place):
    report = report_of(capsys, "compress", "a.txt", "-o", "b.mem.safetensors")
    fields = "bytes_in tokens vectors tokens_per_vector chunks chunks_exact tokens_corrected"
    fields += " bits_stored min_margin seconds gzip_bytes xz_bytes"
    assert set(fields.split()) <= set(report)
    assert report["bytes_in"] == len(TEXT)
    assert report["chunks_exact"] == report["chunks"]
    assert report["tokens_corrected"] == 0
    assert report["gzip_bytes"] == len(gzip.compress(TEXT.encode(), 9))
    assert report["xz_bytes"] == len(lzma.compress(TEXT.encode(), preset=9))
    back = report_of(capsys, "decompress", "b.mem.safetensors")
    assert (place / "b").read_bytes() == TEXT.encode() == (place / "a.txt").read_bytes()
    assert back["bytes_out"] == len(TEXT)
    shown = report_of(capsys, "inspect", "b.mem.safetensors")
    assert {name: shown[name] for name in ("tokens", "vectors", "chunks", "bits_stored")} == {
        name: report[name] for name in ("tokens", "vectors", "chunks", "bits_stored")
    }
    verified = report_of(capsys, "verify", "b.mem.safetensors")
    assert verified["restored"] is True
    assert verified["chunks_exact"] == report["chunks"]


def test_vectors_in_fewer_bits(capsys, place, tiny_folder):
    words = ["--model", str(tiny_folder), "--device", "cpu", "--chunk-tokens", "8", "--steps", "3"]
    made = report_of(
        capsys, "compress", "a.txt", "-o", "b.mem.safetensors", *words, "--store", "int8"
    )
    assert (made["store"], made["bits_per_dimension"]) == ("int8", 8)
    assert made["chunks_shortened"] <= made["chunks"]
    shown = report_of(capsys, "inspect", "b.mem.safetensors")
    assert (shown["version"], shown["store"], shown["dtype"]) == (2, "int8", "float32")
    report_of(capsys, "decompress", "b.mem.safetensors", "-o", "b.txt")
    assert (place / "b.txt").read_text() == TEXT
    half = [*words, "--dtype", "bfloat16", "--store", "float16"]
    refused(capsys, place, "compress", "a.txt", "-o", "c", *half)


def test_horizon_says_what_was_run(capsys, place):
    sizes = ["--samples", "2", "--max-tokens", "3", "--steps", "2", "--device", "cpu"]
    report = report_of(capsys, "horizon", "a.txt", "--recipe", "default@tau=0.3", *sizes)
    settings = get_recipe("default@tau=0.3").with_steps(2).settings()
    assert report["settings"] == json.loads(json.dumps(settings))
    assert report["settings"]["objective"] == {"kind": "SmoothMargin", "tau": 0.3}
    assert len(report["samples"]) == report["n"] == 2


def test_horizon_within_token_steps(capsys, place):
    sizes = ["--samples", 2, "--max-tokens", 12, "--token-steps", 60]
    report = report_of(capsys, "horizon", "a.txt", *sizes)
    assert report["settings"]["strategy"]["kind"] == "TokenBudget"
    assert all(one["token_steps"] < 60 + 12 for one in report["samples"])
    assert any(one["token_steps"] >= 60 for one in report["samples"])


def test_horizon_crams_each_text_by_itself_and_says_so(capsys, place):
    sizes = ["--samples", "2", "--max-tokens", "3", "--steps", "2", "--device", "cpu"]
    report = report_of(capsys, "horizon", "a.txt", "--recipe", "tarasov2026+low-dim@k=8", *sizes)
    settings = report["settings"]
    assert settings["parametrisation"] == {"kind": "LowDim", "k": 8, "in_group": False}
    assert (settings["group_size"], settings["bos_in_text"]) == (None, False)


@pytest.mark.parametrize("command", [["horizon"], ["plan"], ["compress", "-o", "new.safetensors"]])
@pytest.mark.parametrize("recipe", ["kuratov2025", "default@first_token_given=true"])
def test_a_recipe_that_gives_the_first_token_away_is_refused(command, recipe, capsys, place):
    assert run([*command, "a.txt", "--recipe", recipe, "--device", "cpu"]) == 2
    _, err = capsys.readouterr()
    assert f"--recipe: {recipe!r} never predicts the first token" in err
    assert "such as kuratov2025+t1" in err


def test_the_table_has_the_fields_of_the_json(capsys, place):
    report = report_of(capsys, "compress", "a.txt", "-o", "b.mem.safetensors")
    assert run(["compress", "a.txt", "-o", "c.mem.safetensors"]) == 0
    out, _ = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line.strip()] == list(report)


def test_force_replaces(capsys, place):
    (place / "a.txt").write_text("old")
    assert run(["decompress", "a.txt.mem.safetensors", "--force"]) == 0
    assert (place / "a.txt").read_text() == TEXT


def test_standard_streams(place):
    packed = shell("compress", "-", "-o", "-", stdin=TEXT.encode())
    (place / "p.mem.safetensors").write_bytes(packed.stdout)
    assert memcram.Archive.read(place / "p.mem.safetensors").manifest.text.bytes == len(TEXT)
    unpacked = shell("decompress", "-", "-o", "-", stdin=packed.stdout)
    assert unpacked.stdout == TEXT.encode()
    assert unpacked.stderr == b""
    bad = shell("decompress", "-", "-o", "-", stdin=packed.stdout[:-1], code=3)
    assert bad.stdout == b""
    assert bad.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(capsys, command):
    assert run([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "Example" in out
    assert f"memcram {command}" in out
    assert err == ""


def test_every_command_is_here_tested():
    assert sorted(cli.commands) == sorted(COMMANDS)


def test_models_lists_pocket(capsys, pocket):
    [row] = report_of(capsys, "models")["models"]
    assert row["model"] == "pocket"
    assert row["input_width"] == pocket.input_width
    assert row["fingerprint"] == pocket.identity.fingerprint


def test_models_inspect(capsys, pocket):
    found = report_of(capsys, "models", "inspect", "pocket", "--device", "cpu")
    assert found["fingerprint"] == pocket.identity.fingerprint
    assert (found["input_width"], found["vocab_size"], found["layers"]) == (256, 4096, 6)
    assert found["max_positions"] == pocket.max_positions
    assert found["weights_bytes"] == 4 * pocket.parameters
    assert found["bound_tokens"] == memcram.capacity_bound(256, 4096)
    assert found["bos_id"] == pocket.bos_id
    assert found["tokenizer_round_trip"]
    assert found["seconds_per_1000_token_steps"] > 0
    assert found["peak_bytes"] is None
    half = report_of(capsys, "models", "inspect", "pocket", "--device", "cpu", "--dtype", "float16")
    assert half["weights_bytes"] == 2 * pocket.parameters
    assert run(["models", "inspect", "pocket", "--device", "cpu"]) == 0
    out, _ = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == list(found)


def test_models_inspect_finds_a_tokenizer_that_loses_text(capsys, tmp_path):
    tokenizer = tiny.byte_tokenizer(lower_and_strip=True)
    folder = tiny.save_model(tmp_path / "model", tiny.llama_config(), tokenizer)
    capsys.readouterr()
    found = report_of(capsys, "models", "inspect", str(folder), "--device", "cpu")
    assert not found["tokenizer_round_trip"]


def test_models_inspect_refuses_in_one_line(capsys):
    assert run(["models", "inspect", "no such model"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "MODEL: 'no such model' is not a packaged model" in err
    assert err.count("\n") == 1


def test_bound_of_the_published_models_and_a_local_one(capsys, tiny_folder):
    rows = report_of(capsys, "bound")["bounds"]
    assert len(rows) == 14
    found = {row["model"]: round(row["bound_tokens"]) for row in rows}
    # Kuratov et al., ACL 2025, poster
    assert found["EleutherAI/pythia-160m"] == 787
    assert found["meta-llama/Llama-3.1-8B"] == 3862
    [half] = report_of(capsys, "bound", "EleutherAI/pythia-160m", "--bits", "8")["bounds"]
    assert round(half["bound_tokens"], 1) == 393.4  # 768 · 8 / log2(50304)
    [local] = report_of(capsys, "bound", str(tiny_folder))["bounds"]
    assert (local["input_width"], local["vocab_size"]) == (32, 257)


def test_help_does_not_wait_for_torch():
    code = "import sys, memcram.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
