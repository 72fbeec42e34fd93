"""A run whose result must not depend on interruptions: everything real but the pictures.

    python resumable_run.py RUN_DIR              a new run, exit code of the supervisor
    python resumable_run.py RUN_DIR resume       goes on with it
    python resumable_run.py RUN_DIR replay RUN   a replay of RUN
    python resumable_run.py renderer ...         how the supervisor starts its renderers

Supervisor, ring in deterministic mode, captioner with the grammar, and trainer are those of every run. Renderers paint
noise that is a function of caption and seed, in no time to speak of, write down which images they stored, and there is
neither evaluator nor report.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.base.errors import PolygenError
from polygen_stream.config import load_config
from polygen_stream.producers.recorded import commit_recorded, recorded_images
from polygen_stream.roles.role import RoleContext, run_role

STEPS = 40
CHECKPOINT_EVERY = 5
RENDERED = "rendered.txt"  # task and member of every image that was stored, a line each, written after it was
OVERRIDES = {
    "captions.source": "grammar",
    "captions.target": "100",
    "captions.batch": "4",
    "captions.backlog": "16",
    "generators.recipes": "micro/sd15,micro/sana",
    "ring.mode": "deterministic",
    "ring.slots": "160",
    "ring.min_fill": "12",
    "ring.window": "24",
    "train.batch": "12",
    "train.steps": str(STEPS),
    "train.warmup": "4",
    "train.checkpoint_every": str(CHECKPOINT_EVERY),
    "train.ema_decay": "0.9",
    "evaluate.every": "0",
    "launch.restarts": "0",
}


def renderer(context: RoleContext) -> None:
    ring, index = context.ring, context.config.generators.recipes.index(context.generator)
    pace, recorded = random.Random(), recorded_images(context.config, ring)
    rendered = (context.run_dir / RENDERED).open("a", buffering=1)
    while not context.stopping:
        claims = ring.claim([index], pace.randint(1, 6))
        if claims and (claims := commit_recorded(ring, claims, recorded)):
            ring.commit(claims, np.stack([seeding.rng(c.caption, c.seed).integers(0, 256, (32, 32, 3), np.uint8)
                                          for c in claims]))  # fmt: skip
            rendered.write("".join(f"{claim.task_id} {claim.member}\n" for claim in claims))
        elif ring.stats().finished_opening and not ring.stats().backlog[context.generator]:
            return
        time.sleep(pace.uniform(0, 0.03))
        ring.heartbeat("painting", busy_s=0.001)


def main(run_dir: Path, way: str, words: list[str]) -> int:
    from polygen_stream.launch.process_plan import ProcessPlan, build_process_plan
    from polygen_stream.launch.replay import replay_of
    from polygen_stream.launch.supervise import supervise

    more = {}
    if way == "resume":
        config = load_config(run_dir / "config.toml")
    elif way == "replay":
        config, more["fill"] = replay_of(Path(words[0]))
    else:
        config = load_config(None, {**OVERRIDES, **dict(zip(words[::2], words[1::2], strict=True))})
    plan = build_process_plan(config)
    processes = [
        replace(process, command=(sys.executable, __file__, "renderer")) if process.role == "renderer" else process
        for process in plan.with_role("trainer", "renderer", "captioner", "recorder")
    ]
    return supervise(config, run_dir, ProcessPlan(tuple(processes), plan.ring), resumed=way == "resume", **more)


if __name__ == "__main__":
    if sys.argv[1] == "renderer":
        sys.argv.pop(1)
        run_role(renderer, "renderer")
    folder, *rest = sys.argv[1:]
    what = rest.pop(0) if rest[:1] in (["resume"], ["replay"]) else "run"
    try:
        sys.exit(main(Path(folder), what, rest))
    except PolygenError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
