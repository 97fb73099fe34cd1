"""The command that serves the page, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.slow


def test_ctrl_c_ends_it_quietly_while_a_page_is_open(tmp_path):
    pytest.importorskip("gradio", reason="needs the extra ui")
    process = subprocess.Popen(
        [sys.executable, "-m", "memcram", "ui", "--port", "0", "--device", "cpu", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    address = json.loads(process.stdout.readline())["url"]
    # What an open page keeps waiting for.
    with urlopen(f"{address}gradio_api/heartbeat/a") as page:
        assert page.readline() == b"data: ALIVE\n"
        assert list(tmp_path.glob("memcram-ui-*"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    assert not list(tmp_path.glob("memcram-ui-*"))
