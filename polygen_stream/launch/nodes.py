"""Which of several nodes this is, and what of the run is its part."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig, node_share
from polygen_stream.config.checks import check_possible

# (nodes, this node, host, port) as these launchers say it to the one process they start on each node
LAUNCHERS = {
    "torchrun": ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"),
    "slurm": ("SLURM_NNODES", "SLURM_NODEID", None, None),
}


def place_node(
    config: RunConfig,
    nodes: str | None,
    node: int | None,
    rendezvous: str | None,
    environment: Mapping[str, str] = os.environ,
) -> RunConfig:
    """Return the config of this node's supervisor: its place, and its share of batch and captions.

    Args:
        config: of the whole run.
        nodes: how many, or the launcher whose environment says so; None: as launch.nodes.
        node: which of them; None: as the launcher, or launch.node.
        rendezvous: HOST:PORT; None: as the launcher, or launch.rendezvous.
        environment: In which a launcher says its numbers.

    Raises:
        UserError: the place is incomplete or impossible, or the config is not for several nodes.
    """
    launch = config.launch
    found = {"nodes": launch.nodes, "node": launch.node, "rendezvous": launch.rendezvous}
    if nodes in LAUNCHERS:
        found |= _from_launcher(nodes, environment)
    elif nodes is not None:
        if not nodes.isdecimal() or nodes == "0":
            raise UserError(f"--nodes {nodes}: give a number of nodes, or {' or '.join(LAUNCHERS)}")
        found["nodes"] = int(nodes)
    found |= {"node": node} if node is not None else {}
    found |= {"rendezvous": rendezvous} if rendezvous is not None else {}
    _check(config, **found)
    config = config.model_copy(update={"launch": launch.model_copy(update=found)})
    if found["nodes"] > 1:
        config = node_share(config, found["nodes"])
        check_possible(config)
    return config


def node_folder(config: RunConfig, run_dir: Path | None) -> Path | None:
    """Return where in RUN_DIR, which all nodes may share, this node keeps its part of a run.

    Raises:
        UserError: Several nodes have no RUN_DIR.
    """
    if config.launch.nodes == 1:
        return run_dir
    if run_dir is None:
        raise UserError(
            f"a run on {config.launch.nodes} nodes needs --run-dir, the same on every node: this one's part of it is "
            f"DIR/node-{config.launch.node}"
        )
    return run_dir / f"node-{config.launch.node}"


def _from_launcher(name: str, environment: Mapping[str, str]) -> dict[str, object]:
    count, index, host, port = LAUNCHERS[name]
    missing = [variable for variable in LAUNCHERS[name] if variable and variable not in environment]
    if missing:
        raise UserError(
            f"--nodes {name}, but {', '.join(missing)} is not set: start one such command on each node by it"
        )
    for variable in filter(None, (count, index, port)):
        if not environment[variable].isdecimal():
            raise UserError(f"--nodes {name}, but {variable} = {environment[variable]!r} is not a number")
    found: dict[str, object] = {"nodes": int(environment[count]), "node": int(environment[index])}
    if host:
        # The next port: torchrun itself listens on the one it names.
        found["rendezvous"] = f"{environment[host]}:{int(environment[port]) + 1}"
    return found


def _check(config: RunConfig, nodes: int, node: int, rendezvous: str) -> None:
    if nodes == 1:
        if node or rendezvous:
            raise UserError(f"node {node} and rendezvous {rendezvous!r} have no meaning for one node: give --nodes too")
        return
    if node >= nodes:
        raise UserError(f"node {node} of {nodes} nodes: they are counted from 0 to {nodes - 1}")
    host, _, port = rendezvous.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"rendezvous {rendezvous!r} is not HOST:PORT of node 0: give --rendezvous, e.g. node0:29400")
    if config.ring.mode != "throughput":
        raise UserError(
            f"ring.mode = {config.ring.mode!r} counts every task, and each of {nodes} nodes has only some: set "
            "ring.mode = 'throughput'"
        )
