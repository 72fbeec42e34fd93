"""Where ranks meet, and by which interface they connect: one that the other nodes reach, or a line that says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.config import load_config
from polygen_stream.launch import preflight, rendezvous
from polygen_stream.launch.rendezvous import rendezvous_environment

INTERFACE = "GLOO_SOCKET_IFNAME"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    rendezvous._interface_to.cache_clear()
    yield
    rendezvous._interface_to.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """machine(interfaces, local): a node with these, and its own address on the route to any host."""

    def pretend(interfaces: dict[str, str], local: str) -> None:
        addresses = {
            name: [SimpleNamespace(family=socket.AF_INET, address=address)]
            for name, address in {"lo": "127.0.0.1", **interfaces}.items()
        }
        monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
        monkeypatch.setattr(psutil, "net_if_stats", lambda: {name: SimpleNamespace(isup=True) for name in addresses})
        monkeypatch.setattr(rendezvous, "_local_address", lambda host, port: rendezvous.ipaddress.ip_address(local))

    return pretend


def test_ranks_of_one_node_meet_on_the_loopback_interface():
    found = rendezvous_environment("", {INTERFACE: "eth7"})
    assert found["MASTER_ADDR"] == "127.0.0.1" and found[INTERFACE] == "lo"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nodes_of_one_machine_connect_there_too(host: str):
    found = rendezvous_environment(f"{host}:29400", {})
    assert (found["MASTER_ADDR"], found["MASTER_PORT"], found[INTERFACE]) == (host, "29400", "lo")


def test_the_interface_is_the_one_on_the_route_to_the_rendezvous(machine):
    machine({"eth0": "10.0.0.5", "ib0": "10.9.0.5"}, local="10.9.0.5")
    assert rendezvous_environment("node0:29400", {})[INTERFACE] == "ib0"


def test_this_machines_own_address_is_reached_by_the_interface_that_has_it():
    own = [
        (name, address.address)
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET and name != "lo" and psutil.net_if_stats()[name].isup
    ]
    if not own:
        pytest.skip("this machine has the loopback interface only")
    name, address = own[0]
    assert rendezvous_environment(f"{address}:29400", {})[INTERFACE] == name


def test_an_interface_that_the_user_has_named_stays(machine):
    machine({"eth0": "10.0.0.5"}, local="10.0.0.5")
    assert INTERFACE not in rendezvous_environment("node0:29400", {INTERFACE: "ib0"})


def test_a_name_that_is_a_loopback_address_here_leaves_the_only_other_interface(machine):
    machine({"eth0": "10.0.0.5"}, local="127.0.1.1")  # as Debian writes a machine's own name into /etc/hosts
    assert rendezvous_environment("node0:29400", {})[INTERFACE] == "eth0"


def test_of_several_the_user_has_to_choose_and_is_told_which_there_are(machine):
    machine({"eth0": "10.0.0.5", "docker0": "172.17.0.1"}, local="127.0.1.1")
    told = (
        r"node0 is 127\.0\.1\.1 on this node, which other nodes cannot reach: .*set GLOO_SOCKET_IFNAME .*"
        r"eth0 \(10\.0\.0\.5\), docker0 \(172\.17\.0\.1\)$"
    )
    with pytest.raises(UserError, match=told):
        rendezvous_environment("node0:29400", {})


def test_a_rendezvous_that_nobody_knows_is_refused_before_anything_starts():
    launch = {"launch.nodes": "2", "launch.rendezvous": "no-such-node.invalid:29400", "train.batch": "64"}
    with pytest.raises(UserError, match=r"launch\.rendezvous: no-such-node\.invalid cannot be reached from this node"):
        preflight.check_rendezvous(load_config(None, launch))


def test_a_name_server_that_fails_later_does_not_end_a_run(machine, monkeypatch: pytest.MonkeyPatch):
    machine({"eth0": "10.0.0.5"}, local="10.0.0.5")
    first = rendezvous_environment("node0:29400", {})
    monkeypatch.setattr(rendezvous, "_local_address", lambda host, port: pytest.fail("asked again"))
    assert rendezvous_environment("node0:29400", {}) == first
