"""A hub on this machine: what the library of the Hugging Face hub asks of it, over repositories in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


class Hub:
    """Repositories: name -> revision -> files, of which the last commit of each is kept."""

    def __init__(self) -> None:
        self.branches: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.requests: list[str] = []

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes] | None:
        commit = self.commit_of(repo, revision)
        return None if commit is None else self.commits[commit]

    def commit_of(self, repo: str, revision: str) -> str | None:
        branches = self.branches.get(repo, {})
        return branches.get(revision) or (revision if revision in self.commits and repo in self.branches else None)

    def create(self, repo: str, private: bool) -> bool:
        if repo in self.branches:
            return False
        self.branches[repo] = {"main": self._store({})}
        self.private |= {repo} if private else set()
        return True

    def commit(self, repo: str, revision: str, added: dict[str, bytes], removed: list[str]) -> str:
        before = {name: data for name, data in (self.files(repo, revision) or {}).items() if name not in removed}
        self.branches[repo][revision] = self._store({**before, **added})
        return self.branches[repo][revision]

    def _store(self, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(repr([(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(files.items())]).encode())
        self.commits[digest.hexdigest()] = files
        return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, content)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code: str, status: int = 404) -> None:
        self.answer({"error": code}, status, {"X-Error-Code": code, "X-Error-Message": code})

    def route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        match = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/(\w+)(?:/(.+))?", path)
        if match:
            return self._api(match[1], match[2], match[3] or "main", body)
        match = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        return self._file(*match.groups()) if match else self.refuse("NoSuchRoute")

    do_GET = do_HEAD = do_POST = route

    def _chunks(self) -> bytes:
        body = b""
        while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def _create(self, request: dict[str, Any]) -> None:
        repo = f"{request['organization']}/{request['name']}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse("Unauthorized", 401)
        created = self.hub.create(repo, request.get("visibility") == "private" or bool(request.get("private")))
        return self.answer({"url": f"http://{self.headers['Host']}/{repo}", "name": repo}, 200 if created else 409)

    def _api(self, repo: str, action: str, revision: str, body: bytes) -> None:
        files = self.hub.files(repo, revision)
        if repo not in self.hub.branches:
            return self.refuse("RepoNotFound")
        if action == "branch":
            self.hub.branches[repo].setdefault(revision, self.hub.branches[repo]["main"])
            return self.answer({})
        if files is None:
            return self.refuse("RevisionNotFound")
        if action == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            return self.answer(
                {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for n in names]}
            )
        if action == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            added = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
            }
            removed = [line["value"]["path"] for line in lines if line["key"] == "deletedFile"]
            commit = self.hub.commit(repo, revision, added, removed)
            url = f"http://{self.headers['Host']}/{repo}/commit/{commit}"
            return self.answer({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        if action == "tree":
            return self.answer(
                [{"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()} for n, d in files.items()]
            )
        siblings = [{"rfilename": name} for name in files]
        return self.answer({"id": repo, "modelId": repo, "sha": self.hub.commit_of(repo, revision), "siblings": siblings})

    def _file(self, repo: str, revision: str, name: str) -> None:
        data = (self.hub.files(repo, revision) or {}).get(name)
        if data is None:
            return self.refuse("EntryNotFound")
        commit = self.hub.commit_of(repo, revision) or ""
        return self.answer(data, headers={"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'})


@contextmanager
def serving() -> Iterator[tuple[Hub, str]]:
    """A hub and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
