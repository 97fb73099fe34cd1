"""Exports to vLLM: the client is run against a stand-in for its offline API and its server."""

import base64
import io
import json
import runpy
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import memcram
import tiny
from export.samples import archive_of, archive_of_random_vectors, archive_with_wide_margins
from memcram.archive.corrections import GUARD_MARGINS
from memcram.cli import run
from memcram.errors import UsageError
from memcram.export import export
from models import gguf_files


@pytest.fixture(scope="module")
def archive(tiny_lm):
    return archive_with_wide_margins(tiny_lm, GUARD_MARGINS[torch.float32])


@pytest.fixture(scope="module")
def text(archive, tiny_lm):
    return memcram.decompress(archive, tiny_lm).decode()


def run_client(folder, monkeypatch, capfd, *arguments):
    """What the exported client prints."""
    monkeypatch.setattr(sys, "argv", ["client.py", *arguments])
    capfd.readouterr()
    runpy.run_path(str(folder / "client.py"), run_name="__main__")
    return capfd.readouterr().out


class FakeLLM:
    """vLLM's offline API, computed by a model of memcram."""

    lm = None

    def __init__(self, model, revision, dtype, enable_prompt_embeds, generation_config):
        assert (dtype, enable_prompt_embeds, generation_config) == ("float32", True, "vllm")

    def generate(self, prompts, settings):
        assert (settings.temperature, settings.ignore_eos) == (0.0, True)
        ids = self.lm.generate(prompts[0]["prompt_embeds"], settings.max_tokens).tolist()
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids)])]


def test_the_client_decodes_with_the_offline_api(
    archive, text, tiny_lm, tmp_path, monkeypatch, capfd
):
    out = export(archive, tiny_lm, "vllm", tmp_path / "out")
    monkeypatch.setattr(FakeLLM, "lm", tiny_lm)
    module = SimpleNamespace(LLM=FakeLLM, SamplingParams=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "vllm", module)
    assert run_client(out, monkeypatch, capfd) == text


@pytest.fixture
def served(tiny_lm):
    """Address of a server that decodes what it is sent, and the requests it got."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, body))
            sent = io.BytesIO(base64.b64decode(body["prompt_embeds"]))
            embeds = torch.load(sent, weights_only=True)
            ids = tiny_lm.generate(embeds, body["max_tokens"]).tolist()
            answer = json.dumps({"choices": [{"token_ids": ids}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


def test_the_client_decodes_with_a_server(
    archive, text, tiny_lm, served, tmp_path, monkeypatch, capfd
):
    url, requests = served
    out = export(archive, tiny_lm, "vllm", tmp_path / "out")
    assert run_client(out, monkeypatch, capfd, url) == text
    assert [path for path, _ in requests] == ["/v1/completions"] * 2
    assert {body["temperature"] for _, body in requests} == {0.0}
    assert {body["model"] for _, body in requests} == {tiny_lm.identity.id}


def test_another_text_is_not_printed(archive, tiny_lm, served, tmp_path, monkeypatch, capfd):
    out = export(archive, tiny_lm, "vllm", tmp_path / "out")
    record = json.loads((out / "export.json").read_text())
    record["sha256"] = "0" * 64
    (out / "export.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="the decoded text differs from the one that was export"):
        run_client(out, monkeypatch, capfd, served[0])
    assert capfd.readouterr().out == ""


# -- the server's dtype ---------------------------------------------------------------------------


def test_vectors_are_written_in_the_dtype_of_the_server(tiny_lm, tmp_path):
    wide = archive_with_wide_margins(tiny_lm, 1.1 * GUARD_MARGINS[torch.bfloat16], n_tokens=2)
    out = export(wide, tiny_lm, "vllm", tmp_path / "out", dtype="bfloat16")
    assert load_file(out / "chunk-00000.safetensors")["prompt_embeds"].dtype == torch.bfloat16
    assert json.loads((out / "export.json").read_text())["server_dtype"] == "bfloat16"
    assert "--dtype bfloat16 --enable-prompt-embeds" in (out / "README.md").read_text()


def refused(archive, lm, folder, match, **how):
    with pytest.raises(UsageError, match=match):
        export(archive, lm, "vllm", folder / "out", **how)
    assert not (folder / "out").exists()


def test_a_text_that_changes_in_the_dtype_is_refused(tiny_lm, tmp_path):
    draw = torch.Generator().manual_seed(0)
    mem = torch.randn(1024, 2, tiny_lm.input_width, generator=draw) * tiny_lm.embedding_std
    ids, half = tiny_lm.generate(mem, 4), tiny_lm.in_dtype(torch.bfloat16)
    changed = (half.generate(mem, 4) != ids).any(1).nonzero()[0, 0]
    archive = archive_of(tiny_lm, mem[changed], [2], [ids[changed]])
    refused(archive, tiny_lm, tmp_path, r"^dtype: \d+ tokens change in bf", dtype="bfloat16")


def test_a_margin_below_the_guard_is_refused(tiny_lm, tmp_path):
    archive = archive_of_random_vectors(tiny_lm, 2, 3)
    refused(archive, tiny_lm, tmp_path, "^dtype: the smallest margin in float32 is .* logits, and")


def test_an_unknown_dtype_and_one_for_another_program_are_refused(archive, tiny_lm, tmp_path):
    refused(archive, tiny_lm, tmp_path, "^dtype: got 'int8', allowed: float32, bf", dtype="int8")
    with pytest.raises(UsageError, match=r"^dtype: exports to peft keep the archive's dtype$"):
        export(archive, tiny_lm, "peft", tmp_path / "out", dtype="float32")


def test_the_command_takes_the_dtype(archive, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    archive.write("a.mem.safetensors")
    arguments = ["export", "vllm", "a.mem.safetensors", "-o", "out"]
    assert run([*arguments, "--dtype", "int8"]) == 2
    assert capsys.readouterr().err.startswith("memcram: --dtype: got 'int8', allowed: float32")
    assert run([*arguments, "--dtype", "float32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 5


# -- models ---------------------------------------------------------------------------------------


def test_a_model_whose_input_width_differs_is_refused(tmp_path):
    tiny.save_model(tmp_path / "opt", tiny.opt_config())
    lm = memcram.load_lm(str(tmp_path / "opt"), device="cpu")
    archive = archive_of_random_vectors(lm, 2)
    refused(archive, lm, tmp_path, "^archive: the input vectors of .* have width 24, but vLLM ex")


def test_a_gguf_file_is_refused(tmp_path):
    lm = memcram.load_lm(str(gguf_files.write(tmp_path / "tiny.gguf")), device="cpu")
    archive = archive_of_random_vectors(lm, 2)
    refused(archive, lm, tmp_path, "^archive: made with the GGUF file .*; compress with the orig")


def test_float64_needs_a_dtype(tiny_lm64, tmp_path):
    archive = archive_of_random_vectors(tiny_lm64, 2)
    refused(archive, tiny_lm64, tmp_path, "^dtype: got 'float64', allowed: float32, bfloat16, fl")
