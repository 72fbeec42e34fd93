"""How ranks meet: nobody waits for hours, what is wrong is named, and torch has no complaint about the calls."""

from __future__ import annotations

import socket
import threading
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from polygen_stream.base.errors import PolygenError, RankLost
from polygen_stream.config import RunConfig, load_config
from polygen_stream.train import process_group
from polygen_stream.train.gathered_batch import gather_with_gradient
from polygen_stream.train.model import create_clip
from polygen_stream.train.parallel import wrap_in_ddp
from polygen_stream.train.process_group import join_ranks

TINY_VIT = str(Path(__file__).parents[2] / "helpers" / "tiny_vit.json")
CPU = torch.device("cpu")

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, at which this process is rank 0 of two and gives up after two seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process_group, "JOIN_LIMIT_S", 2.0, raising=False)
    return port


def two_ranks() -> RunConfig:
    return load_config(None, {"train.ranks": "2", "train.batch": "64"})


def join(heartbeats: list[str]) -> None:
    join_ranks(two_ranks(), CPU, heartbeats.append)


def test_a_rank_whose_others_do_not_come_says_so_after_minutes(port: int):
    told = rf"waited .* minutes at 127\.0\.0\.1:{port} for all 2 ranks, in vain \(.*: start every node"
    heartbeats: list[str] = []
    with pytest.raises(RankLost, match=told):
        join(heartbeats)
    assert set(heartbeats) == {"waiting for the other 1 ranks to start"}


def test_a_port_that_is_taken_is_named(port: int):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(PolygenError, match=rf"rank 0 cannot listen at 127\.0\.0\.1:{port}, which another process"):
            join([])


def test_an_interface_that_does_not_reach_the_others_is_named(port: int, monkeypatch: pytest.MonkeyPatch):
    """The other rank is at the store, as it would be from another node."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    limit = timedelta(seconds=30)
    other = threading.Thread(target=lambda: dist.TCPStore("127.0.0.1", port, 2, False, limit), daemon=True)
    other.start()
    told = "met the other ranks and cannot connect to them by nowhere0"
    with pytest.raises(RankLost, match=told + ".*set GLOO_SOCKET_IFNAME, and NCCL_SOCKET_IFNAME"):
        join([])
    other.join(30)


def test_heartbeats_end_with_the_patience_so_that_a_rank_which_hangs_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_group, "HEARTBEAT_S", 0.02)
    heartbeats: list[str] = []
    with process_group._heartbeats(heartbeats.append, "waiting", 0.2):
        threading.Event().wait(0.5)
        assert 1 <= len(heartbeats) <= 10
        before = len(heartbeats)
        threading.Event().wait(0.2)
        assert len(heartbeats) == before


def test_torch_warns_of_none_of_our_calls(tmp_path: Path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            model, _ = create_clip(TINY_VIT, CPU)
            parallel = wrap_in_ddp(model, CPU)
            features = torch.ones(2, 3, requires_grad=True)
            gather_with_gradient(features, dist.group.WORLD).sum().backward()
        assert torch.equal(features.grad, torch.ones(2, 3))
        assert not getattr(parallel, "forward_sync_buffers", False), "every step would send the model's buffers"
    finally:
        dist.destroy_process_group()
