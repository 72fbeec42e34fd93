"""One node of a run: everything real but the pictures, and how long they take.

python node_run.py LATENCY_JSON RUN_DIR --nodes N --node K --rendezvous HOST:PORT [--a.b VALUE ...]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from polygen_stream.base.errors import PolygenError
from polygen_stream.bench.latency_stubs.roles import Latency, latency_stub_plan
from polygen_stream.config import load_config
from polygen_stream.launch.nodes import node_folder, place_node
from polygen_stream.launch.process_plan import ProcessPlan
from polygen_stream.launch.supervise import supervise

SETTINGS = {
    "captions.source": "grammar",
    "captions.batch": "4",
    "captions.backlog": "16",
    "captions.target": "96",
    "generators.recipes": "micro/sd15,micro/sana",
    "ring.slots": "256",
    "ring.min_fill": "16",
    "train.batch": "16",
    "train.steps": "12",
    "train.warmup": "4",
    "train.checkpoint_every": "4",
    "evaluate.every": "0",
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("latency", type=json.loads)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--nodes")
    parser.add_argument("--node", type=int)
    parser.add_argument("--rendezvous")
    arguments, words = parser.parse_known_args()
    settings = [word for key, value in SETTINGS.items() for word in (f"--{key}", value)]
    try:
        config = load_config(None, [*settings, *words])
        config = place_node(config, arguments.nodes, arguments.node, arguments.rendezvous)
        latency = Latency(arguments.latency)
        plan = latency_stub_plan(config, latency)
        plan = ProcessPlan(tuple(plan.with_role("trainer", "renderer", "captioner")), plan.ring)
        sys.exit(supervise(config, node_folder(config, arguments.run_dir), plan, fill=latency.write))
    except PolygenError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
