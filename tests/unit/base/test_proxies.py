"""Proxies of the environment: not for servers on this machine, and refused by name where no client can use them."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.base.proxies import bypass_loopback, bypasses_proxies, check_proxies, open_url, proxies_for, through

REMOTE, DEAD = "http://example.invalid:8000/v1", "http://127.0.0.1:9"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", [DEAD, "socks5://127.0.0.1:1080", "no address"])
def test_a_server_on_this_machine_is_asked_without_a_proxy(environment, server, name, value):
    environment.setenv(name, value)
    with open_url(server, 5.0) as answer:
        assert answer.read() == b"ok"
    with proxies_for(server):
        assert name not in os.environ
    assert os.environ[name] == value and through(server) == ""


def test_neither_spelling_of_a_variable_is_left(environment, server):
    environment.setenv("http_proxy", DEAD)
    environment.setenv("HTTP_PROXY", DEAD)
    with open_url(server, 5.0) as answer:
        assert answer.read() == b"ok"
    assert os.environ["http_proxy"] == os.environ["HTTP_PROXY"] == DEAD


@pytest.mark.parametrize(
    ("url", "none"),
    [
        ("http://localhost/v1", True), ("http://a.localhost/v1", True), ("http://127.3.4.5/v1", True),
        ("http://[::1]:8000/v1", True), ("http://mine.example/v1", True),
        (REMOTE, False), ("http://10.0.0.1/v1", False),
    ],
)  # fmt: skip
def test_which_hosts_are_asked_without_a_proxy(environment, url, none):
    environment.setenv("no_proxy", "mine.example")
    assert bypasses_proxies(url) is none


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("socks5://proxy:1080", "socksio"),
        ("ftp://proxy", "kind ftp is not supported"),
        ("http://", "is no address"),
        ("http://[::1", "is no address"),
        ("http://proxy:no", "is no address"),
        ("my proxy:8080", "is no address"),
    ],
)
def test_a_proxy_that_no_client_can_use_is_refused_by_its_variable(environment, name, value, why):
    environment.setattr("importlib.util.find_spec", lambda module: None)
    environment.setenv(name, value)
    with pytest.raises(UserError, match=why) as refused, proxies_for(REMOTE):
        pass
    assert f"{name} = {value!r}" in str(refused.value) and "\n" not in str(refused.value)


def test_a_proxy_is_named_without_its_password(environment):
    environment.setenv("all_proxy", "http://me:hunter22@proxy:3128")
    check_proxies(REMOTE)
    assert through(REMOTE).endswith("@proxy:3128 of all_proxy") and "hunter22" not in through(REMOTE)
    environment.setenv("http_proxy", "proxy:8080")
    assert through(REMOTE) == " through the proxy proxy:8080 of http_proxy"
    environment.setenv("http_proxy", "me:hunter22@[::1")
    with pytest.raises(UserError) as refused:
        check_proxies(REMOTE)
    assert "hunter22" not in str(refused.value)


def test_children_are_told_that_this_machine_has_no_proxy_before_it(environment):
    environment.setenv("NO_PROXY", "mine.example, localhost")
    bypass_loopback()
    bypass_loopback()
    assert os.environ["NO_PROXY"] == "mine.example,localhost,127.0.0.1,::1" and "no_proxy" not in os.environ
