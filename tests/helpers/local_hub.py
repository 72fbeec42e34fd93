"""A model hub on the loopback interface: as much of its interface as huggingface_hub uses for a download."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from loopback_server import serving


class FakeHub:
    """One repository at one revision.

    files: content by path. gated: answer as for an account that has not agreed. cut: of this path nothing past the
    middle ever arrives.
    """

    def __init__(self, name: str, revision: str, files: Mapping[str, bytes]) -> None:
        self.name, self.revision, self.files = name, revision, files
        self.gated = False
        self.cut: str | None = None
        self.sent: Counter[str] = Counter()  # bytes by path
        self.tokens: set[str | None] = set()
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        with serving(Handler) as self.url:
            yield self

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.tokens.add(request.headers.get("Authorization"))
        known = path.startswith((f"/api/models/{self.name}", f"/{self.name}/resolve/"))
        if not known:
            return self._error(request, 404, "RepoNotFound", "Repository not found")
        if self.gated and request.headers.get("Authorization") != "Bearer agreed":
            return self._error(request, 403, "GatedRepo", "Access to this model is restricted")
        if self.revision not in path:
            return self._error(request, 404, "RevisionNotFound", "Invalid rev id")
        if path.startswith("/api/"):
            if "/tree/" in path:
                listed = [self._entry(name) for name in self.files]
            else:
                listed = {"id": self.name, "sha": self.revision, "siblings": [{"rfilename": f} for f in self.files]}
            return self._send(request, 200, json.dumps(listed).encode(), {"Content-Type": "application/json"})
        self._send_file(request, path.removeprefix(f"/{self.name}/resolve/{self.revision}/"))

    def _entry(self, name: str) -> dict[str, object]:
        content = self.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _send_file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        if name not in self.files:
            return self._error(request, 404, "EntryNotFound", "Entry not found")
        content, status, first = self.files[name], 200, 0
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": self.revision}
        asked = re.match(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked:
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content, status = content[first:], 206
        whole = len(content)
        if request.command == "GET" and name == self.cut:
            content = content[: max(0, len(self.files[name]) // 2 - first)]
        if request.command == "GET":
            self.sent[name] += len(content)
        self._send(request, status, content, headers, whole)
        if len(content) < whole:
            request.close_connection = True

    def _error(self, request: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
        self._send(request, status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str], whole: int | None = None
    ) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body) if whole is None else whole)}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
            request.wfile.flush()
