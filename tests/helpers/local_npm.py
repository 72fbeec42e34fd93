"""A registry for npm on the loopback interface: as much of its interface as `npm pack` uses, and packages for it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

from loopback_server import serving


def integrity_of(archive: bytes) -> str:
    return f"sha512-{base64.b64encode(hashlib.sha512(archive).digest()).decode()}"


def tar_of(members: Mapping[str | tarfile.TarInfo, bytes]) -> bytes:
    """A gzipped tar archive of regular files by path, or of whatever a TarInfo says."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if member.isreg():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


def npm_package(name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    about = json.dumps({"name": name, "version": version}).encode()
    return tar_of({"package/package.json": about, **{f"package/{path}": content for path, content in files.items()}})


class LocalNpm:
    """A registry of archives by (name, version). asked: how often npm asked about each package."""

    def __init__(self, archives: Mapping[tuple[str, str], bytes]) -> None:
        self.archives = dict(archives)
        self.asked: Counter[str] = Counter()
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[LocalNpm]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, content = registry.answer(unquote(self.path).lstrip("/"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        with serving(Handler) as self.url:
            yield self

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.startswith("archives/"):
            name, _, version = path.removeprefix("archives/").removesuffix(".tgz").rpartition("/")
            return 200, self.archives[name, version]
        self.asked[path] += 1
        versions = {
            version: {
                "name": name,
                "version": version,
                "dist": {"tarball": f"{self.url}/archives/{name}/{version}.tgz", "integrity": integrity_of(archive)},
            }
            for (name, version), archive in self.archives.items()
            if name == path
        }
        if not versions:
            return 404, b"{}"
        return 200, json.dumps(
            {"name": path, "dist-tags": {"latest": next(iter(versions))}, "versions": versions}
        ).encode()
