"""Restrict the page to this machine: which requests it answers, and which files it reads."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that a page can be bound to."""

MAX_BODY_BYTES = 2**20
"""Of a request that is not an upload."""

# A page loads nothing from elsewhere, whatever its libraries ask for.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
_PLAIN = [(b"content-type", b"text/plain")]
# Requests of Gradio that upload a file, and that read one or download an address.
_UPLOAD = "/gradio_api/upload"
_FILE = re.compile(r"/file[=/](.*)", re.DOTALL)


class Guard:
    """Refuses requests that another site makes through the visitor's browser, and foreign files.

    The host that a request names has to be this machine, which also excludes domain names that
    another site has pointed at it. The request must not come from the page of another site or port.
    A file that it names has to be an upload: Gradio would read any file of this machine, or
    download one. Every answer carries a policy that keeps the page from loading anything from
    elsewhere.

    Args:
        app: the application that answers.
        frames: path of files that are shown in frames without an origin of their own.
        uploads: folder of uploaded files.
    """

    def __init__(self, app: Any, frames: str, uploads: Path) -> None:
        self._app = app
        self._frames = frames
        self._uploads = uploads.resolve()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer 403 or 413."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page has no WebSocket
            await send({"type": "websocket.close"})
            return
        if not self._is_from_here(scope):
            await _refuse(send, 403, b"only for this machine")
            return
        if not all(self._is_upload(path) for path in _FILE.findall(scope["path"])):
            await _refuse(send, 403, b"only uploaded files")
            return
        if scope["method"] not in ("GET", "HEAD") and scope["path"] != _UPLOAD:
            body = await _body(receive)
            if body is None:
                await _refuse(send, 413, b"up to %d bytes" % MAX_BODY_BYTES)
                return
            if not all(self._is_upload(path) for path in _paths(body)):
                await _refuse(send, 403, b"only uploaded files")
                return
            receive = _replayed(body, receive)

        added = [(b"content-security-policy", _POLICY.encode())]
        if scope["path"].startswith(self._frames):  # drawn again under the same names
            added.append((b"cache-control", b"no-cache"))

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        await self._app(scope, receive, send_with_policy)

    def _is_from_here(self, scope: Any) -> bool:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        is_frame = origin == "null" and scope["path"].startswith(self._frames)
        own = origin in (None, f"http://{host}") or is_frame
        return own and _is_local(f"//{host}")

    def _is_upload(self, path: Any) -> bool:
        try:
            return Path(path).resolve().is_relative_to(self._uploads)
        except (TypeError, ValueError, OSError):
            return False


def _is_local(url: str) -> bool:
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False


async def _refuse(send: Any, status: int, reason: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _PLAIN})
    await send({"type": "http.response.body", "body": reason})


async def _body(receive: Any) -> bytes | None:
    """Read the body of a request; None if it is too large."""
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body if len(body) <= MAX_BODY_BYTES else None
    return None


def _replayed(body: bytes, receive: Any) -> Any:
    """Receive a body that was read already, then what follows it."""
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return given.pop() if given else await receive()

    return replay


def _paths(body: bytes) -> Iterator[Any]:
    """Yield the files that a JSON body names, at any depth."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return  # not JSON, which is answered with an error
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
            if one.get("path") is not None:
                yield one["path"]
        elif isinstance(one, list):
            waiting += one
