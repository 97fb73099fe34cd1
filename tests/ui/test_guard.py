"""Requests of other sites, and the policy of every answer."""

import asyncio
import json
from pathlib import Path

import pytest

from memcram.ui.guard import MAX_BODY_BYTES, Guard

HOST = "127.0.0.1:7860"


def answer(path="/", host=HOST, origin=None, body=None, uploads=Path("/uploads"), kind="http"):
    """Status and headers of the answer to a request, and the body that the application got."""
    sent, got = [], []
    parts = [] if body is None else [body[:10], body[10:]]

    async def app(scope, receive, send):
        if body is not None:
            got.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    headers = [(b"Host", host.encode())]
    headers += [] if origin is None else [(b"Origin", origin.encode())]
    method = "GET" if body is None else "POST"
    scope = {"type": kind, "method": method, "path": path, "headers": headers}
    asyncio.run(Guard(app, "/study/", uploads)(scope, receive, send))
    return sent[0].get("status"), dict(sent[0].get("headers", [])), b"".join(got)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "127.0.0.1"])
def test_this_machine_is_answered(host):
    status, headers, _ = answer(host=host, origin=f"http://{host}")
    assert status == 200
    assert headers[b"a"] == b"b"
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    "request_of",
    [
        {"host": "evil.example:7860"},  # a name that its owner points to 127.0.0.1
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::1"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "https://127.0.0.1:7860"},
        {"origin": "null"},
    ],
)
def test_other_sites_are_refused(request_of):
    assert answer(**request_of)[0] == 403


def test_frame_of_the_report_is_answered():
    status, headers, _ = answer(path="/study/index.html", origin="null")
    assert status == 200
    assert headers[b"cache-control"] == b"no-cache"


def test_websocket_is_closed():
    assert answer(kind="websocket") == (None, {}, b"")


def test_uploaded_file_is_passed_on(tmp_path):
    body = json.dumps({"data": [{"path": str(tmp_path / "a/b"), "url": "x"}, "text"]}).encode()
    status, _, got = answer(body=body, uploads=tmp_path)
    assert (status, got) == (200, body)


OTHER_FILES = pytest.mark.parametrize(
    "path", ["/etc/hosts", "https://evil.example/a", "x", "{uploads}/../secret", "a\0b", 3, ["/"]]
)


@OTHER_FILES
@pytest.mark.parametrize("to", ["queue/join", "run/upload", "call/upload"])
def test_other_files_are_refused(path, to, tmp_path):
    path = path.format(uploads=tmp_path) if isinstance(path, str) else path
    body = json.dumps({"data": ["text", [{"a": {"path": path}}]]}).encode()
    status, _, got = answer(f"/gradio_api/{to}", body=body, uploads=tmp_path)
    assert (status, got) == (403, b"")


@OTHER_FILES
@pytest.mark.parametrize("to", ["file=", "file/"])
def test_other_files_are_not_read(path, to, tmp_path):
    assert answer(f"/gradio_api/{to}{path}".format(uploads=tmp_path), uploads=tmp_path)[0] == 403


def test_uploaded_file_is_read(tmp_path):
    assert answer(f"/gradio_api/file={tmp_path}/a/b", uploads=tmp_path)[0] == 200


def test_body_over_the_limit_is_refused():
    assert answer(body=b"0" * MAX_BODY_BYTES)[0] == 200
    assert answer(body=b"0" * (MAX_BODY_BYTES + 1))[0] == 413
    assert answer(body=b"[" * 100_000)[0] == 200  # the application refuses what is not JSON
    assert answer("/gradio_api/upload", body=b"0" * (MAX_BODY_BYTES + 1))[0] == 200
