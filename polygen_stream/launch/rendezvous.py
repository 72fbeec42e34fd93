"""Where the ranks of a trainer meet, and by which network interface they connect to each other afterwards.

Gloo, which carries the vote before every step on any device, connects from the address that the machine's own name
resolves to. Where that is a loopback address, as Debian writes it into /etc/hosts, ranks on other nodes wait for it in
vain. So it is told the interface on the route to the rendezvous. NCCL looks for one by itself, and prefers InfiniBand.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from functools import cache

import psutil

from polygen_stream.base.errors import UserError

LOOPBACK = "lo"
INTERFACE = "GLOO_SOCKET_IFNAME"


def rendezvous_environment(rendezvous: str = "", environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return where the ranks of a trainer find each other, as the environment variables that torch reads.

    That is at `rendezvous`, HOST:PORT, or else at a free port of this machine. If another process takes that port
    before rank 0 does, rank 0 reports it and the run ends.

    Args:
        rendezvous: of several nodes; "" for the ranks of one.
        environment: what the ranks inherit. An interface that is named there stays.

    Raises:
        UserError: HOST cannot be reached from here, or only by an interface that other nodes cannot reach.
    """
    if rendezvous:
        host, _, port = rendezvous.rpartition(":")
        # What torchrun leaves in the environment of its children makes its own store of ours.
        place = {"MASTER_ADDR": host, "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "False"}
        return place if environment.get(INTERFACE) else place | {INTERFACE: _interface_to(host, int(port))}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # On one machine also where the user names another: that one is for several.
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), INTERFACE: LOOPBACK}


@cache  # a name server that fails later must not end a run that starts its ranks again
def _interface_to(host: str, port: int) -> str:
    """Return the interface by which this node reaches node 0, which may be itself."""
    local = _local_address(host, port)
    if not local.is_loopback:
        for name, addresses in psutil.net_if_addrs().items():
            if str(local) in (address.address.partition("%")[0] for address in addresses):
                return name
    elif host == "localhost" or _is_address(host):  # nodes of one machine, for a test
        return LOOPBACK
    others = _addresses_by_interface()
    if len(others) == 1:
        return next(iter(others))
    found = ", ".join(f"{name} ({address})" for name, address in others.items()) or "none"
    raise UserError(
        f"launch.rendezvous: {host} is {local} on this node, which other nodes cannot reach: give node 0's address in "
        f"their network, or set {INTERFACE} to the interface with it; those of this node are: {found}"
    )


def _local_address(host: str, port: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return this node's own address on the route to a host. No packet is sent."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
    except OSError as problem:
        raise UserError(
            f"launch.rendezvous: {host} cannot be reached from this node ({problem.strerror}): give a name or address "
            "of node 0 that every node knows"
        ) from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses_by_interface() -> dict[str, str]:
    """Return the first IPv4 address of each interface that is up and not the loopback one."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup and name != LOOPBACK}
    return {
        name: next(address.address for address in addresses if address.family == socket.AF_INET)
        for name, addresses in psutil.net_if_addrs().items()
        if name in up and any(address.family == socket.AF_INET for address in addresses)
    }
