"""The supervisor: starts a run's processes, watches them, starts those again that died, and ends them in order.

One thread and one loop. Ten times a second it looks at its children, once a second at the ring. Whatever
happens, on the way out every process, the ring and every temporary file are gone; when the supervisor itself
is killed, the guardian does the same.

Long because the life of a run is to be read on one page: what it consists of, the loop, deaths, the end. How each part
is done lies elsewhere (children.py, restarts.py, resume.py, health.py, summary.py).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import last_checkpoint
from polygen_stream.config import RunConfig
from polygen_stream.launch import preflight, resume, run_setup, summary
from polygen_stream.launch.children import Child, ChildDied, Children, how_it_ended, rendezvous_environment
from polygen_stream.launch.degraded import without
from polygen_stream.launch.events import record_event
from polygen_stream.launch.health import Heartbeats
from polygen_stream.launch.process_plan import PRODUCERS, ProcessPlan, ProcessSpec, build_process_plan
from polygen_stream.launch.restarts import Restarts
from polygen_stream.launch.signals import Interrupted, Signals
from polygen_stream.launch.watch.inspect_server import InspectServer
from polygen_stream.launch.watch.limits import LimitsServer
from polygen_stream.launch.watch.live_view import StatusView
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.prometheus import MetricsPage
from polygen_stream.launch.watch.run_status import StatusTracker, counters
from polygen_stream.launch.watch.status_query import StatusServer
from polygen_stream.ring import LockTimeout, Ring
from polygen_stream.ring.snapshot import save_snapshot
from polygen_stream.roles.trace import TraceFile

POLL_S = 0.1
# Producers and the evaluator keep nothing worth waiting for; the trainer's checkpoint gets launch.grace_s.
PRODUCER_GRACE_S = 5.0
EVALUATION_LIMIT_S = 1800.0
REPORT_LIMIT_S = 900.0
STACKS_LIMIT_S = 2.0  # a stopped process (SIGSTOP) never writes them
RECORDER_LIMIT_S = 900.0  # after the last step, for what the ring still has
GIVEN_UP = "given up"
# Roles that start with the run and have a heartbeat in the ring.
RING_ROLES = ("trainer", *PRODUCERS, "recorder")


def supervise(
    config: RunConfig,
    run_dir: Path | None = None,
    plan: ProcessPlan | None = None,
    resumed: bool = False,
    fill: Callable[[Path], None] = lambda run_dir: None,
) -> int:
    """Carries out a run and returns its exit code.

    0: completed. 1: a process died, hung or failed too often; 2: it blamed its input. 130, 143, 129: stopped by SIGINT,
    SIGTERM, SIGHUP, with a checkpoint if the trainer had begun; a second signal kills everything at once.

    resumed: `run_dir` holds an unfinished run of this config, which goes on from its last checkpoint.
    fill: puts into a new run folder what its processes will look for there.

    Raises UserError, with nothing started, when the run folder is taken, or the ring does not fit into memory, or its
    checkpoints not on the disk.
    """
    started = time.monotonic()
    plan = plan or build_process_plan(config)
    with Signals() as signals, ExitStack() as stack:
        step = 0
        if resumed:
            stack.callback(os.close, run_setup.lock_run_folder(run_dir))
            resume.refuse_finished(run_dir)
            step, ring = resume.last_usable(run_dir, config, plan.ring, _say)
        else:
            run_dir = run_setup.choose_run_folder(config, run_dir)
            ring = Ring.create(plan.ring)
        supervisor = None
        try:
            page = None
            if config.launch.prometheus_port:
                page = MetricsPage(config.launch.prometheus_port, config.train.steps)
                stack.callback(page.close)
            preflight.check_shards(config)
            preflight.check_record_shards(config, run_dir, resumed)
            preflight.check_disk(config, plan, run_dir)
            if resumed:
                resume.rewind(run_dir, step, config.train.steps)
                run_setup.record_resume(run_dir, step)
                record_event(run_dir, "resume", step=step)
            else:
                run_setup.create_run_folder(config, run_dir)
                stack.callback(os.close, run_setup.lock_run_folder(run_dir))
                fill(run_dir)
            supervisor = _Supervisor(config, run_dir, plan, ring, signals, page, started)
        finally:
            if supervisor is None:
                ring.close()
        return supervisor.run()


class _Supervisor:
    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        plan: ProcessPlan,
        ring: Ring,
        signals: Signals,
        page: MetricsPage | None,
        started: float,
    ):
        self.config = config
        self.run_dir = run_dir
        self.folder = RunFolder(run_dir)
        self.plan = plan
        self.ring = ring
        self.signals = signals
        self.page = page
        self.started = started
        self.stats = ring.stats()
        self.tail = MetricsTail(self.folder.metrics)
        self.tail.start_again()
        self.children = Children(run_dir, ring.fd)
        self.inspectors = InspectServer(run_dir)
        self.limits = LimitsServer(run_dir)
        self.askers = StatusServer(config, run_dir)
        self.watch = StatusTracker()
        self.trace = TraceFile(run_dir, "supervisor") if config.launch.trace else None
        self.view = StatusView(config, run_dir)
        self.restarts = Restarts(config.launch.max_restarts)
        self.heartbeats = Heartbeats(config.launch.hang_timeout_s, started)
        self._ended: list[Child] = []  # not dealt with yet
        self._due: list[tuple[float, Callable[[], None]]] = []  # what is to be started again, and when
        self._looked_at_ring = started
        self.first_step_at: float | None = None  # of a trainer that died since
        self._signals_heeded = 0

    def run(self) -> int:
        status, code, message = "failed", 1, "the supervisor crashed"
        try:
            self._train()
            self._finish_recorder()
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
            self.askers.close()
            if self.trace:
                self.trace.close()
            self.view.close()
            try:
                self._conclude(status, message)
            finally:
                self.ring.close()
        return code

    # ---- what a run consists of

    def _train(self) -> None:
        """Starts trainer and producers and returns when the trainer has finished all steps."""
        if self._steps_done() >= self.config.train.steps:  # a run that was interrupted while it was evaluated
            return
        self._start(*self.plan.with_role(*RING_ROLES))
        for process in self.plan.with_role("dashboard"):
            self.children.start(process).stopping = True  # a page that ends is no reason to end the run

        def trained() -> bool:
            # Not earlier: its imports would delay the first step. The untrained checkpoint is there by then.
            if self.tail.first_seen:
                self._start_evaluator()
            return all(trainer.done for trainer in self.children.with_role("trainer"))

        self._wait(trained)
        self._due.clear()
        self._stop(self.children.with_role(*PRODUCERS), PRODUCER_GRACE_S)

    def _finish_recorder(self) -> None:
        """Nothing gets complete any more: the recorder writes what the ring still has, and ends."""
        for process in self.plan.with_role("recorder"):
            recorders = self.children.with_role("recorder")
            # None: the run was interrupted after its last step. Or it died just now.
            if not recorders or not (recorders[0].alive or recorders[0].stopping):
                self._start(process)
            deadline = time.monotonic() + RECORDER_LIMIT_S
            self._wait(lambda process=process, deadline=deadline: self._recorder_is_over(process, deadline))

    def _recorder_is_over(self, process: ProcessSpec, deadline: float) -> bool:
        recorder = self.children.named(process.name)
        if recorder.alive and time.monotonic() > deadline:
            self._give_up_recorder(recorder, f"{process.label} did not finish within {RECORDER_LIMIT_S:.0f} s")
        elif not recorder.asked and any(row["pid"] == recorder.popen.pid for row in self.stats.processes):
            recorder.asked = True  # not before it was in the ring's table, by when it heeds signals
            recorder.signal(signal.SIGTERM)
        return not recorder.alive and not self._due

    def _start(self, *processes: ProcessSpec) -> None:
        """Starts processes; the ranks of a trainer have to be among them all or none."""
        meeting = rendezvous_environment(self.config.launch.rendezvous)
        work = [self._work(process) for process in processes]  # first: it may raise LockTimeout, with nothing started
        for process, work_before in zip(processes, work, strict=True):
            child = self.children.start(process, None if process.rank is None else meeting)
            child.work_before = work_before

    def _start_evaluator(self) -> None:
        if not self.children.with_role("evaluator"):
            self._start(*self.plan.with_role("evaluator"))

    def _evaluate(self) -> None:
        """Waits until the evaluator has evaluated the final checkpoint."""
        self._start_evaluator()
        for process in self.plan.with_role("evaluator"):
            self._wait(self._has_done(process), EVALUATION_LIMIT_S, process)

    def _report(self) -> None:
        for process in self.plan.with_role("report"):
            self._start(process)
            self._wait(self._has_done(process), REPORT_LIMIT_S, process)

    def _has_done(self, process: ProcessSpec) -> Callable[[], bool]:
        return lambda: self.children.named(process.name).done

    # ---- the loop

    def _wait(self, done: Callable[[], bool], limit_s: float | None = None, process: ProcessSpec | None = None) -> None:
        """Runs the loop until `done`; past the limit, `process` is the culprit."""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while True:
            try:
                if done():
                    return
                if deadline and time.monotonic() > deadline:
                    child = self.children.named(process.name)
                    raise ChildDied(child, f"{process.label} did not finish within {limit_s:.0f} s")
                self._turn()
            except LockTimeout as error:
                self._end_holder(error)

    def _turn(self) -> None:
        if self.signals.received:
            raise Interrupted
        self.children.check_guardian()
        self.tail.read()
        self._deal_with_ended()
        now = time.monotonic()
        if now - self._looked_at_ring >= 1.0:
            self._looked_at_ring = now
            self._look_at_ring(now)
        for due in [*self._due]:
            moment, start = due
            if time.monotonic() >= moment:
                start()
                self._due.remove(due)
        time.sleep(POLL_S)

    def _deal_with_ended(self) -> None:
        self._ended += self.children.reap()
        while self._ended:
            child = self._ended[0]
            if not child.stopping:
                reason = self._early_end(child) if child.returncode == 0 else how_it_ended(child)
                if reason:
                    self._lost(child, reason)
            self._ended.pop(0)

    def _early_end(self, child: Child) -> str | None:
        """Of a child that ended by itself without an error: what it left undone."""
        role, stats, steps = child.process.role, self.ring.stats(), self.config.train.steps
        early = f"{child.process.label} ended, perhaps by a SIGTERM that was not the supervisor's, "
        if role == "trainer" and child.process.leads and self._steps_done() < steps:
            return f"{early}at step {self._steps_done()} of {steps}"
        if role in ("captioner", "reader") and not stats.finished_opening:
            return early + "before all captions were in the ring"
        if role == "renderer" and not (stats.finished_opening and stats.backlog[child.process.generator] == 0):
            return early + "before all its pictures were rendered"
        if role == "recorder" and self._steps_done() < steps:
            return early + "before the last step"
        if role == "evaluator" and not self._is_evaluated():
            return early + "without evaluating the final checkpoint"
        return None

    def _work(self, process: ProcessSpec) -> int:
        """What a process or its predecessors have achieved so far, in units of its own; 0 of the report."""
        stats = self.ring.stats()
        match process.role:
            case "trainer":
                return self._steps_done()
            case "captioner" | "reader":
                return stats.known
            case "renderer":
                return stats.images_committed[process.generator]
            case "evaluator":
                return sum(1 for _ in read_jsonl(self.folder.eval_log))
            case "recorder":
                return read_json(self.folder.recorder_state).get("captions", 0)
        return 0

    def _progressed(self, child: Child) -> bool:
        """Whether a child that died got further than its predecessor."""
        if child.process.replica:  # what its siblings render is no progress of its own
            rows = self.ring.stats().processes
            return any(row["pid"] == child.popen.pid and row["busy_s"] > 0 for row in rows)
        return self._work(child.process) > child.work_before

    def _steps_done(self) -> int:
        """Steps that are in a checkpoint."""
        checkpoint = last_checkpoint(self.run_dir)
        return checkpoint[0] if checkpoint else 0

    def _is_evaluated(self) -> bool:
        lines = read_jsonl(self.folder.eval_log)
        return any(line.get("final") and line.get("step") == self.config.train.steps for line in lines)

    def _look_at_ring(self, now: float) -> None:
        self.ring.reap()
        self.stats = self.ring.stats()
        self.inspectors.serve(self.ring)
        if changed := self.limits.serve(self.ring):
            self.view.say(changed)
        shot = self.watch.take(self.stats, self.tail, self.children.all)
        self.view.update(shot)
        self.askers.serve(shot)
        if self.page:
            self.page.update(shot, self.run_dir)
        if self.trace:
            self.trace.counters(**counters(self.stats))
        silent = self.heartbeats.silent(self.children.with_role(*RING_ROLES), self.stats, now)
        if silent:
            self._end_silent(*silent)

    def _end_silent(self, child: Child, reason: str) -> None:
        child.reason = reason
        child.signal(signal.SIGABRT)  # faulthandler writes its stacks into the log
        deadline = time.monotonic() + STACKS_LIMIT_S
        while child.alive and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self._ended += self.children.reap()
        self.children.kill([child])

    def _end_holder(self, error: LockTimeout) -> None:
        holders = [child for child in self.children.all if child.alive and child.popen.pid == error.pid]
        if not holders:
            raise error
        holders[0].reason = f"{holders[0].process.label} stood still holding the ring's mutex and was killed"
        self.children.kill(holders)

    # ---- deaths

    def _lost(self, child: Child, reason: str) -> None:
        """Has the process started again, or the run go on without it. ChildDied: neither."""
        child.lost = True
        if child.returncode == 2 and child.process.role != "recorder":  # it blamed its input, the same the next time
            raise ChildDied(child, reason)
        if child.process.role == "trainer":
            self._lost_trainer(child, reason)
            return
        pause = self.restarts.pause(child.process.name, self._progressed(child))
        if child.process.role == "recorder" and (pause is None or child.returncode == 2):
            self._give_up_recorder(child, reason)
            return
        if pause is None:
            self._give_up(child, reason)
            return
        self._plan_restart(child, reason, pause, lambda: self._start(child.process))

    def _lost_trainer(self, child: Child, reason: str) -> None:
        """All ranks go and start again from the last checkpoint, in deterministic mode with the ring of that time."""
        pause = self.restarts.pause("trainer", self._work(child.process) > child.work_before)
        if pause is None:
            raise self._too_often(child, reason, "trainer")
        gone = self.children.with_role("trainer")
        if self.plan.ring.deterministic:
            gone = self.children.with_role(*RING_ROLES, "evaluator")
            self._due.clear()
        for other in gone:
            other.stopping = True
        self.children.kill(other for other in gone if other is not child)
        again = [other.process for other in gone]
        self._plan_restart(child, reason, pause, lambda: self._restart_trainer(again))

    def _restart_trainer(self, processes: list[ProcessSpec]) -> None:
        self._ended += self.children.wait_for_killed()
        deterministic = self.plan.ring.deterministic
        if deterministic:
            self.ring.close()
        step, ring = resume.last_usable(self.run_dir, self.config, self.plan.ring if deterministic else None, _say)
        if ring is not None:
            self.ring = ring
            self.children.ring_fd = ring.fd
        resume.rewind(self.run_dir, step, self.config.train.steps)
        self.first_step_at = self.first_step_at or self.tail.first_seen
        self.tail.start_again()
        self._start(*processes)

    def _plan_restart(self, child: Child, reason: str, pause_s: float, start: Callable[[], None]) -> None:
        name = "trainer" if child.process.role == "trainer" else child.process.name
        child.plans = f"died, starts again within {pause_s:g} s"
        record_event(
            self.run_dir, "restart", process=name, reason=reason, pause_s=pause_s, in_a_row=self.restarts.in_a_row(name)
        )
        self.view.say(f"{reason}; it starts again in {pause_s:g} s, log: {child.log}")
        self._due.append((time.monotonic() + pause_s, start))

    def _give_up(self, child: Child, reason: str) -> None:
        siblings = [
            other
            for other in self.children.with_role("renderer")
            if other is not child and other.process.generator == child.process.generator and other.plans != GIVEN_UP
        ]
        if child.process.replica and siblings:
            child.plans = GIVEN_UP
            self.view.say(f"{reason}, too often in a row: the run goes on with {len(siblings)} of its renderers")
            return
        generators, down = self.config.generators.names, {*self.ring.stats().generators_down, child.process.generator}
        if child.process.role != "renderer" or self.plan.ring.deterministic or len(down) == len(generators):
            raise self._too_often(child, reason, child.process.name)
        self.ring.generator_down(generators.index(child.process.generator))
        child.plans = GIVEN_UP
        text = without(self.config, down)
        record_event(
            self.run_dir, "degraded", generator=child.process.generator, reason=reason, step=self.stats.step, text=text
        )
        self.watch.degraded = text
        self.view.say(f"{reason}, too often in a row: the run goes on {text}")

    def _give_up_recorder(self, child: Child, reason: str) -> None:
        child.stopping, child.plans = True, "given up"
        self.children.kill([child])
        record_event(self.run_dir, "recorder", reason=reason)
        self.view.say(f"{reason}: the run goes on and writes no more shards, log: {child.log}")

    def _too_often(self, child: Child, reason: str, name: str) -> ChildDied:
        again = self.restarts.in_a_row(name)
        return ChildDied(child, f"{reason}{f' ({again} restarts without progress before)' if again else ''}")

    # ---- the end

    def _stop_on_signal(self, number: int) -> str:
        """The trainer writes its checkpoint, then the others stop. Returns what to tell the user."""
        trainers = [trainer for trainer in self.children.with_role("trainer") if trainer.alive]
        self._stop(trainers, self.config.launch.grace_s)
        self._stop(self.children.all, PRODUCER_GRACE_S)
        checkpoint = last_checkpoint(self.run_dir)
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
            save_snapshot(self.ring, self.folder.ring_snapshot, payload=False)
        first_step_at = self.first_step_at or self.tail.first_seen
        first_step_s = first_step_at - self.started if first_step_at else None
        result = summary.summarize(
            self.run_dir, status, message, time.monotonic() - self.started, first_step_s, self.stats
        )
        write_json(self.folder.summary, result)
        again = f"polygen-stream run --resume {self.run_dir}"
        if status == "failed":
            print(f"error: {message}\n  run folder: {self.run_dir}\n  to go on: {again}", file=sys.stderr)
        elif status == "interrupted":
            print(f"{message}\n  to go on: {again}", file=sys.stderr)
        else:
            summary.show(result, self.run_dir)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
