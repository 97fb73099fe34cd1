"""A small stand-in for the Hugging Face Hub: repositories in memory, over HTTP on 127.0.0.1.

It answers the requests that `huggingface_hub` makes for a commit of small files and for downloads;
it asks for no other kind of upload (LFS, Xet).
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_secretOfTheTest"


@dataclass
class Repo:
    """Files of each commit; branches point to commits."""

    private: bool = False
    branches: dict = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict = field(default_factory=lambda: {"0" * 40: {}})

    def commit(self, branch, files):
        content = self.commits[self.branches[branch]] | files
        data = json.dumps({name: one.hex() for name, one in sorted(content.items())})
        oid = hashlib.sha1(data.encode()).hexdigest()
        self.commits[oid] = content
        self.branches[branch] = oid
        return oid

    def at(self, revision):
        oid = self.branches.get(revision, revision)
        return (oid, self.commits[oid]) if oid in self.commits else None


class Hub:
    """Repositories by (type, id), and every request."""

    def __init__(self):
        self.repos = {}
        self.requests = []
        self.endpoint = ""

    def files(self, kind, repo, revision="main"):
        return self.repos[kind, repo].at(revision)[1]

    def put(self, kind, repo, files):
        return self.repos.setdefault((kind, repo), Repo()).commit("main", files)


@contextmanager
def running():
    """A hub in another thread."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        self._read()

    def do_HEAD(self):
        self._read()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append(("POST", self.path, self.headers.get("Authorization")))
        words = [unquote(one) for one in self.path.partition("?")[0].strip("/").split("/")]
        if words == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        if words == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        kind, repo, verb, name = words[1][:-1], "/".join(words[2:4]), *words[4:6]
        found = self.hub.repos[kind, repo]
        if verb == "branch":
            found.branches.setdefault(name, found.branches["main"])
            return self._json({})
        if verb == "preupload":
            paths = [one["path"] for one in json.loads(body)["files"]]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            return self._json({"files": [plain | {"path": one} for one in paths]})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            one["value"]["path"]: base64.b64decode(one["value"]["content"])
            for one in lines
            if one["key"] == "file"
        }
        oid = found.commit(name, files)
        url = f"{self.hub.endpoint}/{repo}/commit/{oid}"
        return self._json({"success": True, "commitOid": oid, "commitUrl": url})

    def _create(self, wanted):
        kind = wanted.get("type") or "model"
        repo = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}"
        if (kind, repo) in self.hub.repos:
            return self._json({"error": "You already created this", "url": url}, 409)
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.hub.repos[kind, repo] = Repo(private)
        return self._json({"url": url, "id": repo})

    def _read(self):
        self.hub.requests.append((self.command, self.path, self.headers.get("Authorization")))
        words = [unquote(one) for one in self.path.partition("?")[0].strip("/").split("/")]
        if words[0] == "api":
            kind, repo, rest = words[1][:-1], "/".join(words[2:4]), words[4:]
            revision = rest[1] if rest[:1] == ["revision"] else "main"
        else:
            kind = "dataset" if words[0] == "datasets" else "model"
            words = words[1:] if kind == "dataset" else words
            repo, revision, path = "/".join(words[:2]), words[3], "/".join(words[4:])
        found = self.hub.repos.get((kind, repo))
        if found is None:
            return self._missing("RepoNotFound")
        known = found.at(revision)
        if known is None:
            return self._missing("RevisionNotFound")
        oid, files = known
        if words[0] == "api":
            siblings = [{"rfilename": name} for name in files]
            answer = {"id": repo, "sha": oid, "siblings": siblings, "private": found.private}
            return self._json(answer | {"tags": []})
        if path not in files:
            return self._missing("EntryNotFound")
        etag = hashlib.sha1(files[path]).hexdigest()
        return self._send(files[path], {"ETag": f'"{etag}"', "X-Repo-Commit": oid})

    def _missing(self, code):
        return self._json({"error": code}, 404, {"X-Error-Code": code})

    def _json(self, content, status=200, headers=None):
        headers = {"Content-Type": "application/json"} | (headers or {})
        return self._send(json.dumps(content).encode(), headers, status)

    def _send(self, data, headers, status=200):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
