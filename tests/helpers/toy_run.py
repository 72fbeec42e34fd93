"""A run of small real processes for the fault tests: real supervisor, guardian, ring and roles, no models.

    python toy_run.py supervise RUN_DIR [--a.b VALUE ...]     one toy run, exit code of the supervisor
    python toy_run.py resume RUN_DIR                          goes on with one
    python toy_run.py ROLE --run-dir ... --ring-fd ...        how the supervisor starts a toy role

With --train.ranks more than 1 the trainer is the real one.

TOY_FAULT in the environment makes one role misbehave: "ROLE:WAY", see `misbehave`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.checkpoints import META, RING, config_hash, describe_files, list_checkpoints
from polygen_stream.config import load_config
from polygen_stream.ring import DrawRequest, Kind, Member, Ring, WaitStopped
from polygen_stream.ring.snapshot import save_snapshot
from polygen_stream.roles.role import RoleContext, run_role

GENERATORS = ("micro/sd15", "micro/sana")
OVERRIDES = {
    "generators.recipes": ",".join(GENERATORS),
    "generators.positives": "2",
    "generators.negatives": "2",
    "ring.slots": "256",
    "ring.min_fill": "8",
    "train.batch": "8",
    "train.steps": "40",
    "train.warmup": "5",
    "train.checkpoint_every": "20",
}


def toy_plan(config):
    from polygen_stream.launch.process_plan import (  # the roles start faster without it
        ProcessPlan,
        ProcessSpec,
        build_process_plan,
        ring_spec,
    )

    env = {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}

    def process(role: str, name: str, generator: str | None = None) -> ProcessSpec:
        return ProcessSpec(name, role, (sys.executable, __file__, role), generator, env=env)

    plan = build_process_plan(config)
    ranks = plan.with_role("trainer")
    processes = (
        *(ranks if len(ranks) > 1 else [process("trainer", "trainer")]),
        *(
            replace(process("renderer", real.name, real.generator), replica=real.replica)
            for real in plan.with_role("renderer")
        ),
        *([process("captioner", "captioner")] if plan.with_role("captioner") else []),
        *plan.with_role("reader", "recorder"),  # the real ones
        *([process("evaluator", "evaluator")] if plan.with_role("evaluator") else []),
        process("report", "report"),
    )
    return ProcessPlan(processes, ring_spec(config))


def fault_of(role: str, context: RoleContext) -> str:
    who, _, way = os.environ.get("TOY_FAULT", ":").partition(":")
    again = (context.run_dir / "logs" / f"{context.name}.2.log").exists()
    return "" if {role, context.name}.isdisjoint(who.split(",")) or ("TOY_ONCE" in os.environ and again) else way


def misbehave(role: str, context: RoleContext) -> None:
    """TOY_FAULT = ROLE:WAY, NAME:WAY or ROLE,ROLE:WAY; with TOY_ONCE only the first process of that name does it."""
    way = fault_of(role, context)
    if way == "user_error":
        raise UserError("captions.bank = nowhere: no such word bank; known: micro")
    if way == "failure":
        raise PolygenError("the paint ran out")
    if way == "crash":
        raise RuntimeError("unforeseen")
    if way == "silence":
        time.sleep(3600)
    if way == "stray":  # a helper in a session of its own, as vLLM's engine core may be
        subprocess.Popen(["sleep", "3600"], start_new_session=True)


def captioner(context: RoleContext) -> None:
    misbehave("captioner", context)
    members = [Member(index, polarity, 7) for polarity in (0, 1) for index in range(len(GENERATORS))]
    target = context.config.captions.target
    task = context.ring.stats().known
    while not context.stopping and (not target or task < target):
        arguments = (Kind.PAIR, f"caption {task}", f"negative {task}", members)
        try:
            context.ring.open_group(task, *arguments, timeout_s=60, stop=lambda: context.stopping)
        except WaitStopped:
            return
        context.ring.heartbeat("opening", busy_s=0.001)
        task += 1
    if not context.stopping:
        context.ring.finish_opening()


def renderer(context: RoleContext) -> None:
    misbehave("renderer", context)
    ring = context.ring
    index = GENERATORS.index(context.generator)
    metrics = context.run_dir / "metrics.jsonl"
    while not context.stopping:
        if fault_of("renderer", context) == "hold" and metrics.exists() and metrics.stat().st_size:
            from killed_children import JOURNALLED_WRITES, stop_at

            stop_at(2, JOURNALLED_WRITES, signal.SIGSTOP)  # in the next transition, with the mutex
        claims = ring.claim([index], 4)
        if claims:
            ring.commit(claims, np.full((len(claims), 32, 32, 3), 128, np.uint8))
        stats = ring.stats()
        if stats.finished_opening and not stats.backlog[context.generator]:
            return
        time.sleep(0.01)
        ring.heartbeat("painting", waited_s=0.01, busy_s=0.001)


def trainer(context: RoleContext) -> None:
    misbehave("trainer", context)
    train, ring = context.config.train, context.ring
    began = time.monotonic()
    found = list_checkpoints(context.run_dir)
    step = found[-1][0] if found else 0
    if not found:
        checkpoint(context, 0)
    with (context.run_dir / "metrics.jsonl").open("a", buffering=1) as metrics:
        while step < train.steps and not context.stopping:
            draw = ring.draw(DrawRequest(step, 4, 2), timeout_s=60, stop=lambda: context.stopping)
            ring.read([slot for group in draw.groups for slot in group.positive_slots])
            ring.release(draw)
            time.sleep(float(os.environ.get("TOY_STEP_S", "0.02")))
            stats = ring.stats()
            line = {
                "step": step, "time": time.monotonic() - began, "loss": 1.0, "p": 0.25,
                "wait_s": draw.waited_s, "step_s": 0.02, "images": 12,
                "images_committed": sum(stats.images_committed.values()),
            }  # fmt: skip
            metrics.write(json.dumps(line) + "\n")
            ring.set_step(step + 1)
            ring.heartbeat("training", waited_s=draw.waited_s, busy_s=0.02)
            step += 1
            if step % train.checkpoint_every == 0 and step < train.steps:
                checkpoint(context, step)
    while context.config.captions.target and not context.stopping and not production_is_over(ring):
        ring.heartbeat("waiting for the last image, so that the totals are known")
        time.sleep(0.05)
    checkpoint(context, step, final=True)


def production_is_over(ring: Ring) -> bool:
    stats = ring.stats()
    return stats.finished_opening and not any(stats.backlog.values())


def checkpoint(context: RoleContext, step: int, final: bool = False) -> None:
    folder = context.run_folder.checkpoint(step)
    partial = folder.with_name(f".partial-{folder.name}")
    partial.mkdir(parents=True)
    save_snapshot(context.ring, partial / RING, payload=True)
    meta = {"step": step, "final": final, "model": "toy", "config_hash": config_hash(context.config)}
    (partial / META).write_text(json.dumps(meta | {"files": describe_files(partial)}))
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def evaluator(context: RoleContext) -> None:
    misbehave("evaluator", context)
    numbers = {
        "zero_shot_things": 0.5, "zero_shot_colours": 0.6, "retrieval_i2t_r1": 0.3, "retrieval_t2i_r1": 0.2,
        "compositional": 0.7, "compositional_by_edit": {"swap colour": 0.7},
    }  # fmt: skip
    failed = {task: "there is none" for task in os.environ.get("TOY_FAILED_TASK", "").split(",") if task}
    done: set[Path] = set()
    while not context.stopping:
        for meta in sorted(context.run_dir.glob("checkpoints/step_*/meta.json")):
            if meta in done:
                continue
            done.add(meta)
            found = {name: json.loads(meta.read_text())[name] for name in ("step", "final")}
            with (context.run_dir / "eval.jsonl").open("a") as file:
                line = {**found, "metrics": numbers, "chance": {"zero_shot_things": 0.04}, "failed": failed}
                file.write(json.dumps(line) + "\n")
            if found["final"]:
                return
        time.sleep(0.02)


def report(context: RoleContext) -> None:
    misbehave("report", context)
    assert context.ring.groups_snapshot(4)
    (context.run_dir / "report.html").write_text("a toy run\n")


ROLES = {role.__name__: role for role in (captioner, renderer, trainer, evaluator, report)}

if __name__ == "__main__":
    role = sys.argv.pop(1)
    if role in ROLES:
        run_role(ROLES[role], role)
    run_dir, *words = sys.argv[1:]
    from polygen_stream.launch.resume import find_run
    from polygen_stream.launch.supervise import supervise

    try:
        if role == "resume":
            config = load_config(find_run(run_dir) / "config.toml")
        else:
            settings = [word for key, value in OVERRIDES.items() for word in (f"--{key}", value)]
            config = load_config(None, [*settings, *words])
        sys.exit(supervise(config, Path(run_dir), toy_plan(config), resumed=role == "resume"))
    except PolygenError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
