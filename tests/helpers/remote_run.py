"""A run of which one generator renders on a Ray cluster: everything real but pictures, model and their latency.

python remote_run.py ADDRESS RUN_DIR [--a.b VALUE ...]
python remote_run.py bridge ...                         how the supervisor starts the bridge
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.bench.latency_stubs.roles import Latency, latency_stub_plan
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import ProcessPlan, build_process_plan
from polygen_stream.launch.supervise import supervise
from polygen_stream.producers import bridge
from polygen_stream.roles.role import run_role

HERE, THERE = "micro/sd15", "micro/sana"
SETTINGS = {
    "captions.source": "grammar",
    "captions.batch": "4",
    "captions.backlog": "16",
    "captions.target": "0",
    "generators.recipes": f"{HERE},{THERE}",
    "generators.batch": "4",
    "generators.remote_recipes": THERE,
    "generators.remote_actors": "2",
    "generators.remote_gpus": "0",
    "generators.remote_resource": "render",
    "ring.slots": "256",
    "ring.min_fill": "16",
    "train.batch": "16",
    "train.steps": "100000",
    "train.checkpoint_every": "100000",
    "evaluate.every": "0",
}


class Painter:
    """In place of a generator: grey pictures, 10 ms each."""

    def __init__(self, *_: object) -> None: ...

    def ready(self) -> bool:
        return True

    def render(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        time.sleep(0.01 * len(captions))
        return np.stack([np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8) for seed in seeds])


def main(address: str, run_dir: Path, words: list[str]) -> int:
    settings = [word for key, value in SETTINGS.items() for word in (f"--{key}", value)]
    config = load_config(None, [*settings, "--generators.remote", address, *words])
    [planned] = [process for process in build_process_plan(config).with_role("renderer") if process.generator == THERE]
    assert planned.command[-1] == bridge.__name__, planned
    latency = Latency({HERE: 0.01, THERE: 0.01}, step_s=0.05)
    plan = latency_stub_plan(config, latency)
    processes = [
        replace(planned, command=(sys.executable, __file__, "bridge")) if process.generator == THERE else process
        for process in plan.processes
    ]
    return supervise(config, run_dir, ProcessPlan(tuple(processes), plan.ring), fill=latency.write)


if __name__ == "__main__":
    if sys.argv[1] == "bridge":
        sys.argv.pop(1)
        run_role(partial(bridge.main, actor_class=Painter), "renderer")
    try:
        sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
    except PolygenError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
