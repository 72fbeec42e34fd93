"""The dashboard process: serves the report of a run that goes on, to browsers on this machine.

A page is made when a browser requests it, so that it costs nothing while no browser shows it; it reloads itself.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

from polygen_stream.report.gallery import of_ring
from polygen_stream.report.page import run_page
from polygen_stream.report.ring_view import view_ring
from polygen_stream.report.run_data import read_run_data
from polygen_stream.roles.role import RoleContext, run_role, yield_cores

PORT_VARIABLE = "POLYGEN_STREAM_DASHBOARD_PORT"
LOOPBACK = "127.0.0.1"
REFRESH_S = 15
POLL_S = 0.5


def main(context: RoleContext) -> None:
    """Serve the report until the run ends."""
    logging.basicConfig(level=logging.INFO)
    yield_cores()
    with HTTPServer((LOOPBACK, int(os.environ[PORT_VARIABLE])), _handler(context)) as server:
        server.timeout = POLL_S
        while not context.stopping:
            context.ring.heartbeat(f"serving http://{LOOPBACK}:{server.server_port}/")
            server.handle_request()


def current_page(context: RoleContext) -> str:
    """Return the report as of now. Images come from the ring; nearest neighbours are left out until the run ends."""
    seen = view_ring(context.ring)
    run = read_run_data(context.run_dir, seen.inspection)
    return run_page(
        replace(run, gallery=of_ring(seen.groups, seen.read, context.ring.spec.generators)), refresh_s=REFRESH_S
    )


def _handler(context: RoleContext) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # of a browser that connects and sends nothing

        def do_GET(self) -> None:
            # DNS rebinding: a page of another host whose name resolves to 127.0.0.1 must not read this one.
            if self.headers.get("Host", "").rpartition(":")[0] not in (LOOPBACK, "localhost"):
                return self.send_error(HTTPStatus.FORBIDDEN)
            if self.path != "/":
                return self.send_error(HTTPStatus.NOT_FOUND)
            began = time.monotonic()
            body = current_page(context).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)
            logging.info("page of %d bytes in %.1f s", len(body), time.monotonic() - began)

        def log_message(self, format: str, *args: object) -> None:
            logging.info(format, *args)

    return Handler


if __name__ == "__main__":
    run_role(main, "dashboard")
