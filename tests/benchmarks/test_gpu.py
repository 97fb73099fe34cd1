"""The report of the GPU benchmark, its exit code, and a quick run on the CPU."""

import json
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import gpu
import gpu_speed
from gpu_site import Site, require

SITE = Site(torch.device("cpu"), quick=True)
PART_KEYS = {"passed", "message", "seconds", "figures"}


def passing(site):
    require(site.quick, "not quick")
    return {"texts": 3}


def failing(site):
    require(not site.quick, "quick")
    return {}


def broken(site):
    return {"figure": 1 / 0}


def invoke(monkeypatch, tmp_path, checks, figures, *arguments):
    monkeypatch.setattr(gpu, "CHECKS", checks)
    monkeypatch.setattr(gpu, "FIGURES", figures)
    output = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--quick", "-o", str(output), *arguments]
    done = CliRunner().invoke(gpu.main, options)
    return done.exit_code, json.loads(output.read_text())


def test_report_of_parts_that_pass(monkeypatch, tmp_path):
    code, report = invoke(monkeypatch, tmp_path, {"a": passing}, {"b": passing})
    assert code == 0
    assert set(report) == {
        "device",
        "versions",
        "quick",
        "checks",
        "figures",
        "failed",
        "seconds",
    }
    assert set(report["versions"]) == {"python", "memcram", "torch", "transformers"}
    assert report["device"]["kind"] == "cpu"
    assert report["device"]["driver"] is None
    assert report["failed"] == {}
    for part in (report["checks"]["a"], report["figures"]["b"]):
        assert set(part) == PART_KEYS
        assert (part["passed"], part["message"], part["figures"]) == (True, None, {"texts": 3})


def test_a_failed_part_does_not_stop_the_others(monkeypatch, tmp_path):
    checks = {"first": failing, "second": passing}
    code, report = invoke(monkeypatch, tmp_path, checks, {"third": broken})
    assert code == 1
    assert set(report["failed"]) == {"first", "third"}
    assert report["checks"]["second"]["passed"]
    assert report["failed"]["first"].endswith(": quick")
    assert report["failed"]["third"].startswith("ZeroDivisionError at test_gpu.py:")
    assert "\n" not in "".join(report["failed"].values())


def test_no_part_begins_after_the_deadline(monkeypatch, tmp_path):
    code, report = invoke(monkeypatch, tmp_path, {"a": passing}, {}, "--minutes", "0")
    assert code == 1
    assert report["failed"] == {"a": "not run: no time was left"}


def test_a_run_that_is_cut_short_leaves_what_it_has(tmp_path):
    def interrupted(site):
        raise KeyboardInterrupt

    output = tmp_path / "gpu.json"
    with pytest.raises(KeyboardInterrupt):
        gpu.run(SITE, {"a": passing, "b": interrupted}, {}, time.perf_counter() + 60, output)
    assert set(json.loads(output.read_text())["checks"]) == {"a"}


def test_the_script_passes_its_options_on():
    script = Path(gpu.__file__).with_suffix(".sh").read_text()
    assert '"$here/gpu.py" --minutes 9 "$@"' in script
    assert "timeout 590" in script


@pytest.mark.slow
def test_quick_run_on_the_cpu(tmp_path):
    output = tmp_path / "gpu.json"
    done = CliRunner().invoke(gpu.main, ["--device", "cpu", "--quick", "-o", str(output)])
    report = json.loads(output.read_text())
    assert report["failed"] == {}
    assert done.exit_code == 0
    speed = report["figures"]["SmolLM2-135M, engine against the published loop"]["figures"]
    assert speed["ratio"] > 0
    assert speed["met"] is None  # targets are those of a GPU
    fraction = report["figures"]["Llama-3.2-1B, fraction of the matrix rate"]["figures"]
    assert fraction["fraction"] > 0


def test_graphs_are_captured_once_per_shape_and_give_the_same(monkeypatch):
    captured = []

    def capture(function, sample):
        captured.append(tuple(sample[0].shape))
        return function

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    lm = gpu_speed.smollm2_135m(SITE)
    graphed = gpu_speed.Graphed(lm)
    assert graphed.input_width == lm.input_width
    for rows in (2, 1, 2):
        embeds = torch.randn(rows, 8, lm.input_width)
        ours, theirs = gpu_speed.gradients(graphed, embeds), gpu_speed.gradients(lm, embeds)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert captured == [(2, 8, 576), (1, 8, 576)]
