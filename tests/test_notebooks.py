"""The notebooks in `examples/` run, and are stored with the outputs of a run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
MAX_BYTES = 200_000
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind="code"):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_there_are_the_five():
    assert [path.stem for path in NOTEBOOKS] == [
        "decode-with-peft",
        "how-many-vectors",
        "quick-start",
        "table-1-for-your-model",
        "what-vectors-look-like",
    ]


@every_notebook
def test_stored_outputs_are_those_of_one_run(path):
    found = cells(path)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    outputs = [one for cell in found for one in cell["outputs"]]
    assert {one["output_type"] for one in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(one.get("name") != "stderr" for one in outputs)
    shown = json.dumps([one for one in outputs if "image/png" not in one.get("data", {})])
    assert re.findall(r"(?<![\w.<])/[a-z]\w+/\w", shown) == []  # paths of the machine
    assert path.stat().st_size < MAX_BYTES


@every_notebook
def test_links_lead_somewhere(path):
    for cell in cells(path, "markdown"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", "".join(cell["source"])):
            assert (EXAMPLES / link).exists(), link


@pytest.mark.slow
@every_notebook
def test_notebook_runs(path, tmp_path):
    """Its code cells as one script, which contains assertions, in a copy of the folder."""
    if path.stem == "decode-with-peft":
        pytest.importorskip("peft", reason="peft is not installed; the extra 'peft' has it")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    data = tmp_path / "src" / "memcram" / "data"
    data.mkdir(parents=True)
    shutil.copy(EXAMPLES.parent / "src" / "memcram" / "data" / "demo.txt", data)
    script = tmp_path / "examples" / f"{path.stem}.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells(path)), encoding="utf-8")
    found = subprocess.run(
        [sys.executable, script],
        cwd=script.parent,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
