"""The supervisor: starts a run's processes, watches them, and ends them in order.

One thread and one loop. Ten times a second it looks at its children, once a second at the ring. Whatever
happens, on the way out every process, the ring and every temporary file are gone; when the supervisor itself
is killed, the guardian does the same.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from polygen_stream.config import RunConfig
from polygen_stream.errors import PolygenError
from polygen_stream.launch import run_folder, summary
from polygen_stream.launch.children import Child, ChildDied, Children, how_it_ended, meeting_place
from polygen_stream.launch.inspect_server import InspectServer
from polygen_stream.launch.limits import LimitsServer
from polygen_stream.launch.plan import Plan, build_plan
from polygen_stream.launch.status import StatusView
from polygen_stream.launch.tail import MetricsTail, read_jsonl
from polygen_stream.ring import LockTimeout, Ring
from polygen_stream.ring.snapshot import save_snapshot

POLL_S = 0.1
# Producers and the evaluator keep nothing worth waiting for; the trainer's checkpoint gets launch.grace_s.
PRODUCER_GRACE_S = 5.0
EVALUATION_LIMIT_S = 1800.0
REPORT_LIMIT_S = 900.0
# Hang timeouts a process has until its first unit of work is done: imports and weights from a cold disk, or on a
# machine that is busy with something else, take minutes.
START_FACTOR = 5
STACKS_LIMIT_S = 2.0  # a stopped process (SIGSTOP) never writes them
# Roles with a heartbeat in the ring.
RING_ROLES = ("trainer", "renderer", "captioner")


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP reached the supervisor."""


class Signals:
    """Notes SIGINT, SIGTERM and SIGHUP for the loop to act on. Main thread only."""

    def __init__(self) -> None:
        self.received: list[int] = []

    def __enter__(self) -> Signals:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {
            number: signal.signal(number, lambda received, frame: self.received.append(received)) for number in numbers
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def supervise(config: RunConfig, run_dir: Path | None = None, plan: Plan | None = None) -> int:
    """Carries out a run and returns its exit code.

    0: completed. 1: a process died, hung or failed; 2: it blamed its input. 130, 143, 129: stopped by SIGINT,
    SIGTERM, SIGHUP, with a checkpoint if the trainer had begun; a second signal kills everything at once.

    Raises UserError, with nothing started, when the run folder is taken or the ring does not fit into memory.
    """
    started = time.monotonic()
    plan = plan or build_plan(config)
    run_dir = run_folder.choose(config, run_dir)
    with closing(Ring.create(plan.ring)) as ring, Signals() as signals:
        run_folder.create(config, run_dir)
        return _Supervisor(config, run_dir, plan, ring, signals, started).run()


class _Supervisor:
    def __init__(self, config: RunConfig, run_dir: Path, plan: Plan, ring: Ring, signals: Signals, started: float):
        self.config = config
        self.run_dir = run_dir
        self.plan = plan
        self.ring = ring
        self.signals = signals
        self.started = started
        self.stats = ring.stats()
        self.tail = MetricsTail(run_dir / "metrics.jsonl")
        self.children = Children(run_dir, ring.fd)
        self.inspectors = InspectServer(run_dir)
        self.limits = LimitsServer(run_dir)
        self.view = StatusView(config, run_dir)
        self._looked_at_ring = started
        self._thawed = started
        self._signals_heeded = 0

    def run(self) -> int:
        status, code, message = "failed", 1, "the supervisor crashed"
        try:
            self._train()
            self._evaluate()
            self._report()
            status, code, message = "completed", 0, None
        except Interrupted:
            number = self.signals.received[0]
            self._signals_heeded = len(self.signals.received)
            message = self._stop_on_signal(number)
            status, code = "interrupted", 128 + number
        except PolygenError as error:
            status, code, message = "failed", error.exit_code, str(error)
            trainers = self.children.with_role("trainer")
            # Ranks that lost one of theirs are stuck in a collective: there will be no checkpoint to wait for.
            whole = all(trainer.alive for trainer in trainers)
            self._stop(trainers, self.config.launch.grace_s if whole else PRODUCER_GRACE_S, self.children.all)
        finally:
            self.children.close()
            self.inspectors.close()
            self.limits.close()
            self.view.close()
            self._conclude(status, message)
        return code

    def _train(self) -> None:
        """Starts trainer and producers and returns when the trainer has finished all steps."""
        meeting = meeting_place()
        for process in self.plan.with_role(*RING_ROLES):
            self.children.start(process, None if process.rank is None else meeting)
        for process in self.plan.with_role("dashboard"):
            self.children.start(process).stopping = True  # a page that ends is no reason to end the run
        trainers = self.children.with_role("trainer")

        def trained() -> bool:
            # Not earlier: its imports would delay the first step. The untrained checkpoint is there by then.
            if self.tail.first_seen:
                self._start_evaluator()
            return not any(trainer.alive for trainer in trainers)

        self._wait(trained)
        checkpoint = run_folder.last_checkpoint(self.run_dir)
        if checkpoint and checkpoint[0] < self.config.train.steps:
            raise PolygenError(
                f"trainer ended at step {checkpoint[0]} of {self.config.train.steps}: it got a SIGTERM that "
                f"was not the supervisor's; its checkpoint is {checkpoint[1]}"
            )
        self._stop(self.children.with_role("renderer", "captioner"), PRODUCER_GRACE_S)

    def _start_evaluator(self) -> None:
        if not self.children.with_role("evaluator"):
            for process in self.plan.with_role("evaluator"):
                self.children.start(process)

    def _evaluate(self) -> None:
        """Waits until the evaluator has evaluated the final checkpoint."""
        self._start_evaluator()
        for evaluator in self.children.with_role("evaluator"):
            self._wait(lambda: not evaluator.alive, EVALUATION_LIMIT_S, evaluator)  # noqa: B023 called at once
            if not any(line.get("final") for line in read_jsonl(self.run_dir / "eval.jsonl")):
                raise ChildDied(evaluator, "evaluator ended without evaluating the final checkpoint")

    def _report(self) -> None:
        for process in self.plan.with_role("report"):
            report = self.children.start(process)
            self._wait(lambda: not report.alive, REPORT_LIMIT_S, report)  # noqa: B023 called at once

    def _wait(self, done: Callable[[], bool], limit_s: float | None = None, child: Child | None = None) -> None:
        """Runs the loop until `done`; past the limit, `child` is the culprit."""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while not done():
            if deadline and time.monotonic() > deadline:
                raise ChildDied(child, f"{child.process.label} did not finish within {limit_s:.0f} s")
            self._turn()

    def _turn(self) -> None:
        if self.signals.received:
            raise Interrupted
        self.children.check_guardian()
        for child in self.children.reap():
            if child.returncode != 0 and not child.stopping:
                raise ChildDied(child)
        self.tail.read()
        now = time.monotonic()
        if now - self._looked_at_ring >= 1.0:
            if now - self._looked_at_ring > 5.0:  # all of us stood still (a paused container): blame nobody
                self._thawed = now
            self._looked_at_ring = now
            self._look_at_ring()
            self._check_heartbeats(now)
            self.view.update(self.stats, self.tail, self.children.all)
        time.sleep(POLL_S)

    def _look_at_ring(self) -> None:
        try:
            self.ring.reap()
            self.stats = self.ring.stats()
            self.inspectors.serve(self.ring)
            self.limits.serve(self.ring)
        except LockTimeout as error:
            holders = [child for child in self.children.all if child.alive and child.popen.pid == error.pid]
            if not holders:
                raise
            self.children.kill(holders)
            raise ChildDied(
                holders[0], f"{holders[0].process.label} stood still holding the ring's mutex and was killed"
            ) from error

    def _check_heartbeats(self, now: float) -> None:
        rows = {row["pid"]: row for row in self.stats.processes}
        silent = []
        for child in self.children.with_role(*RING_ROLES):
            limit = self.config.launch.hang_timeout_s
            row = rows.get(child.popen.pid)
            if row is None:  # not registered yet
                row = {"heartbeat_age_s": now - child.started, "doing": "starting", "wait_s": 0, "busy_s": 0}
            if not row["wait_s"] and not row["busy_s"]:
                limit *= START_FACTOR
            silent_s = min(row["heartbeat_age_s"], now - self._thawed)
            if child.alive and silent_s > limit:
                silent.append((silent_s, limit, row["doing"], child))
        if silent:
            self._end_silent(*max(silent, key=lambda one: one[0]))  # the others may be waiting for that one

    def _end_silent(self, silent_s: float, limit: float, doing: str, child: Child) -> None:
        child.signal(signal.SIGABRT)  # faulthandler writes its stacks into the log
        deadline = time.monotonic() + STACKS_LIMIT_S
        while child.alive and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self.children.reap()
        self.children.kill([child])
        raise ChildDied(
            child,
            f"{child.process.label} was silent for {silent_s:.0f} s (limit {limit:g}, see launch.hang_timeout_s), "
            f'last known to be "{doing}", and was killed',
        )

    def _stop_on_signal(self, number: int) -> str:
        """The trainer writes its checkpoint, then the others stop. Returns what to tell the user."""
        trainers = self.children.with_role("trainer")
        self._stop(trainers, self.config.launch.grace_s)
        self._stop(self.children.all, PRODUCER_GRACE_S)
        checkpoint = run_folder.last_checkpoint(self.run_dir)
        where = f"step {checkpoint[0]}, checkpoint at {checkpoint[1]}" if checkpoint else "step 0, no checkpoint yet"
        message = f"stopped at {where} ({signal.Signals(number).name})"
        for trainer in trainers:
            if trainer.returncode:
                message += f"\nerror: while stopping, {how_it_ended(trainer)}\n  log: {trainer.log}"
        return message

    def _stop(self, children: list[Child], grace_s: float, at_once: Iterable[Child] = ()) -> None:
        """SIGTERM, at most `grace_s` of patience, SIGKILL. A further signal to us ends the patience.

        Those in `at_once` are told to stop too, and waited for no longer than PRODUCER_GRACE_S.
        """
        everyone = {*children, *at_once}
        for child in everyone:
            child.stopping = True
            child.signal(signal.SIGTERM)
        began = time.monotonic()
        while waiting := [child for child in everyone if child.alive]:
            waited_s = time.monotonic() - began
            impatient = len(self.signals.received) > self._signals_heeded
            self.children.kill(
                child
                for child in waiting
                if impatient or waited_s > (grace_s if child in children else min(grace_s, PRODUCER_GRACE_S))
            )
            time.sleep(POLL_S / 2)
            self.children.reap()

    def _conclude(self, status: str, message: str | None) -> None:
        self.tail.read()
        with suppress(PolygenError):  # the ring itself may have failed the run: keep the last numbers it gave
            self.stats = self.ring.stats()
            # Pictures would be most of the ring's memory; how it stood tells why a run ended as it did.
            save_snapshot(self.ring, self.run_dir / run_folder.RING_SNAPSHOT, payload=False)
        first_step_s = self.tail.first_seen - self.started if self.tail.first_seen else None
        result = summary.summarize(
            self.run_dir, status, message, time.monotonic() - self.started, first_step_s, self.stats
        )
        run_folder.write_json(self.run_dir / "summary.json", result)
        if status == "failed":
            print(f"error: {message}\n  run folder: {self.run_dir}", file=sys.stderr)
        elif status == "interrupted":
            print(message, file=sys.stderr)
        else:
            summary.show(result, self.run_dir)
