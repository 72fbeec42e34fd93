"""HTTP proxies of the environment: which one leads to a URL, and whether it can be used.

Clients of HTTP read http_proxy, https_proxy, all_proxy and no_proxy (or the same in capitals) when they are made. A
server on this machine is never asked through a proxy, whatever no_proxy says.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

from polygen_stream.base.errors import UserError
from polygen_stream.base.secrets import redact

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAMES = ("http_proxy", "https_proxy", "all_proxy")


def is_address(url: str) -> bool:
    """Whether a text is the URL of a server that is asked by HTTP."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port != 0
    except ValueError:
        return False
    printable = all("!" <= character <= "~" for character in url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_is_good and printable


def bypasses_proxies(url: str) -> bool:
    """Whether a URL is asked for without a proxy: it is on this machine, or no_proxy names its host."""
    host = _host(url)
    return _is_loopback(host) or bool(urllib.request.proxy_bypass(host))


def through(url: str) -> str:
    """Return by which proxy a URL is asked for, as words to put behind it in a message; "" if by none."""
    if bypasses_proxies(url):
        return ""
    scheme = urlsplit(url).scheme.lower()
    chosen = {name: value for name, value in _proxies() if name.lower() in (f"{scheme}_proxy", "all_proxy")}
    first = next(iter(sorted(chosen, key=lambda name: name.lower() == "all_proxy")), None)
    return f" through the proxy {_shown(chosen[first])} of {first}" if first else ""


def check_proxies(url: str) -> None:
    """Refuse proxies that an HTTP client cannot be made with.

    Args:
        url: What is to be asked for.

    Raises:
        UserError: One of them cannot be used; names its variable.
    """
    for name, value in _proxies():
        if fault := _fault(value):
            shown = _shown(value)
            raise UserError(f"{redact(url)} cannot be asked for with {name} = {shown!r}: {fault}; correct or unset it")


@contextmanager
def proxies_for(url: str) -> Iterator[None]:
    """Have HTTP clients that are made in the block use the proxies for a URL: none, if it is asked for without.

    Raises:
        UserError: As `check_proxies`.
    """
    if not bypasses_proxies(url):
        check_proxies(url)
        yield
        return
    kept = {name: os.environ.pop(name) for name in [*os.environ] if name.lower() in _NAMES}
    try:
        yield
    finally:
        os.environ.update(kept)


def open_url(url: str, timeout_s: float) -> HTTPResponse:
    """Ask for a URL, as urllib.request.urlopen does, with the proxies for it.

    Raises:
        UserError: As `check_proxies`.
        OSError, ValueError, http.client.HTTPException: As urlopen.
    """
    with proxies_for(url):
        opener = urllib.request.build_opener()
    return opener.open(url, timeout=timeout_s)


def bypass_loopback() -> None:
    """Have HTTP clients of this process and of its children ask servers on this machine without a proxy."""
    name = "NO_PROXY" if "NO_PROXY" in os.environ and "no_proxy" not in os.environ else "no_proxy"
    listed = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
    os.environ[name] = ",".join([*listed, *(host for host in LOOPBACK if host not in listed)])


def _proxies() -> list[tuple[str, str]]:
    """Return the variables that are set, and their values; small letters win, as in urllib."""
    found = []
    for name in _NAMES:
        for variable in (name, name.upper()):
            if variable in os.environ:
                if os.environ[variable]:
                    found.append((variable, os.environ[variable]))
                break
    return found


def _shown(value: str) -> str:
    """Return a proxy without its password; its scheme may have been left out."""
    return redact(f"http://{value}" if "@" in value and "://" not in value else value)


def _fault(value: str) -> str | None:
    no_address = "it is no address; write http://HOST:PORT"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        usable = bool(parts.hostname) and parts.port != 0 and not any(c.isspace() or c < " " for c in value)
    except ValueError:
        return no_address
    if not usable:
        return no_address
    if parts.scheme not in ("http", "https", "socks5", "socks5h"):
        return f"a proxy of the kind {parts.scheme} is not supported; write http://HOST:PORT"
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        return "SOCKS proxies need the socksio package (pip install socksio)"
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
