"""Configs for machines with GPUs, and what plans of them say."""

from __future__ import annotations

import io

from rich.console import Console

from polygen_stream.assets.resources import config_path
from polygen_stream.base.errors import UserError
from polygen_stream.capacity.budget_view import show_budget
from polygen_stream.capacity.gpus import parse_gpus
from polygen_stream.capacity.proposal import propose
from polygen_stream.capacity.proposal_view import show_proposal
from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import RunConfig, load_config
from polygen_stream.launch.process_plan import build_process_plan

NODE = config_path("node_8gpu")


def node(**changes: str) -> RunConfig:
    return load_config(NODE, {key.replace("__", "."): value for key, value in changes.items()})


def budget(config: RunConfig, gpus: str) -> str:
    console = Console(file=io.StringIO(), width=300)
    try:
        show_budget(config, build_process_plan(config, there=False), parse_gpus(gpus), console)
    except UserError as problem:
        return f"{console.file.getvalue()}\nrefused: {problem}"
    return console.file.getvalue()


def settings(config: RunConfig, gpus: int) -> dict[str, str]:
    """What `plan` says of a config's keys."""
    console = Console(file=io.StringIO(), width=300)
    show_proposal(config, find_rates(config), propose(config, find_rates(config), gpus), console)
    told = console.file.getvalue().partition("in the config:\n")[2].partition("\n\n")[0]
    return dict(line.strip().split(" = ", 1) for line in told.splitlines())


def number(setting: str) -> int:
    return int(setting.split()[0])
