"""The supervisor: starts a run's processes, watches them, restarts those that die, and ends them in order.

One thread and one loop. Ten times a second it looks at its children, once a second at the ring. Whatever happens, on
the way out every process, the ring and every temporary file are gone; when the supervisor itself is killed, the
guardian does the same.

Long because the life of a run is to be read on one page: what it consists of, the loop, deaths, the end. How each part
is done lies elsewhere (role_table.py, children.py, restarts.py, resume.py, health.py, summary.py).
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.json_files import write_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import last_checkpoint
from polygen_stream.config import RunConfig, no_scores
from polygen_stream.launch import resume, summary
from polygen_stream.launch.children import Child, ChildDied, Children, how_it_ended
from polygen_stream.launch.compute_clock import ComputeClock
from polygen_stream.launch.degraded import without
from polygen_stream.launch.events import record_event
from polygen_stream.launch.health import Heartbeats
from polygen_stream.launch.process_plan import ProcessPlan, ProcessSpec
from polygen_stream.launch.progress import RunProgress
from polygen_stream.launch.rendezvous import rendezvous_environment
from polygen_stream.launch.restarts import Restarts
from polygen_stream.launch.ring_file import remove_file
from polygen_stream.launch.role_table import IN_RING, PRODUCERS, IfLost
from polygen_stream.launch.signals import Interrupted, Signals
from polygen_stream.launch.start_order import StartQueue
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.monitor import RunMonitor
from polygen_stream.launch.watch.prometheus import MetricsPage
from polygen_stream.ring import LockTimeout, Ring
from polygen_stream.ring.snapshot import save_snapshot

POLL_S = 0.1
# Producers and the evaluator keep nothing worth waiting for; the trainer's checkpoint gets launch.grace_s.
PRODUCER_GRACE_S = 5.0
EVALUATOR_GRACE_S = 1.0  # to end a line of eval.jsonl
STACKS_LIMIT_S = 2.0  # a stopped process (SIGSTOP) never writes them
RECORDER_LIMIT_S = 900.0  # after the last step, for what the ring still has
GIVEN_UP = "given up"


class Supervisor:
    """Carries out one run: `run` is its whole life.

    `held`: descriptors that its processes keep open, of files that no other run may use while one of them lives.
    """

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        plan: ProcessPlan,
        ring: Ring,
        signals: Signals,
        page: MetricsPage | None,
        started: float,
        held: Sequence[int] = (),
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.folder = RunFolder(run_dir)
        self.plan = plan
        self.progress = RunProgress(config, self.folder, ring)
        self.signals = signals
        self.started = started
        self.stats = ring.stats()
        self.tail = MetricsTail(self.folder.metrics)
        self.tail.start_again()
        self.children = Children(run_dir, ring.fd, held)
        self.monitor = RunMonitor(config, run_dir, page)
        self.restarts = Restarts(config.launch.restarts)
        self.heartbeats = Heartbeats(config.launch.hang_timeout_s, started)
        self._ended: list[Child] = []  # not dealt with yet
        self._due: list[tuple[float, Callable[[], None]]] = []  # what is to be started again, and when
        self._looked_at_ring = started
        self._to_start = StartQueue([])
        self.first_step_at: float | None = None  # of a trainer that died since
        self.missing: list[dict[str, str]] = []  # what the run should have left, see summary.missing
        self._signals_heeded = 0

    def run(self) -> int:
        """Carry out the run, and return its exit code."""
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
        except Exception as error:  # whatever it is, what has been trained is worth a checkpoint
            status, code, message = "failed", getattr(error, "exit_code", 1), self._explain(error)
            trainers = self.children.with_role("trainer")
            # Ranks that lost one of theirs are stuck in a collective: there will be no checkpoint to wait for.
            whole = all(trainer.alive for trainer in trainers)
            grace_s = self.config.launch.grace_s if whole else PRODUCER_GRACE_S
            self._stop(trainers, grace_s, at_once=self.children.all)
        finally:
            written = self._end(status, message)
        return code if written else code or 1

    # ---- what a run consists of

    def _train(self) -> None:
        """Start trainer and producers, and return when the trainer has finished all steps."""
        if self.progress.steps_done() >= self.config.train.steps:  # a run that was interrupted while it was evaluated
            return
        if self.config.launch.node == 0 and (said := no_scores(self.config)):
            self.monitor.say(said)
        self._to_start = StartQueue(self.plan.with_role(*IN_RING))
        for process in self.plan.with_role("dashboard"):
            self.children.start(process).stopping = True  # a page that ends is no reason to end the run

        def trained() -> bool:
            # Not earlier: its imports would delay the first step. The untrained checkpoint is there by then.
            if self.tail.first_seen:
                self._start_evaluator()
            self._start_next()
            trainers = self.children.with_role("trainer")
            return bool(trainers) and all(trainer.done for trainer in trainers)

        self._wait(trained)
        self._due.clear()
        self._stop(self.children.with_role("evaluator"), EVALUATOR_GRACE_S)  # it starts anew where the trainer was
        self._stop(self.children.with_role(*PRODUCERS), PRODUCER_GRACE_S)

    def _start_next(self) -> None:
        if self._to_start.left:
            due = self._to_start.due(self.children.all, self.progress.stats(), time.monotonic())
            self._start(*due)
            self._to_start.remove(due)

    def _finish_recorder(self) -> None:
        """Wait until the recorder has written what the ring still has. No further caption becomes complete."""
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
            self._give_up_role(recorder, f"{process.label} did not finish within {RECORDER_LIMIT_S:.0f} s")
        elif not recorder.asked and any(row["pid"] == recorder.popen.pid for row in self.stats.processes):
            recorder.asked = True  # not before it was in the ring's table, by when it heeds signals
            recorder.signal(signal.SIGTERM)
        return not recorder.alive and not self._due

    def _start(self, *processes: ProcessSpec) -> None:
        """Start processes; the ranks of a trainer have to be among them all or none."""
        ranks = any(process.rank is not None for process in processes)
        rendezvous = rendezvous_environment(self.config.launch.rendezvous) if ranks else {}
        # First: it may raise LockTimeout, with nothing started.
        work = [process.kind.work(self.progress, process) for process in processes]
        for process, work_before in zip(processes, work, strict=True):
            child = self.children.start(process, None if process.rank is None else rendezvous)
            child.work_before = work_before

    def _start_evaluator(self) -> None:
        if not self.children.with_role("evaluator"):
            self._start(*self.plan.with_role("evaluator"))

    def _evaluate(self) -> None:
        """Have the final checkpoint evaluated, unless that happened before this run was resumed."""
        if not self.progress.is_evaluated():
            self._finish("evaluator", summary.missing_scores)
        self.missing += summary.missing_tasks(self.config, self.run_dir)

    def _report(self) -> None:
        self._finish("report", summary.missing_report)

    def _finish(self, role: str, missing: Callable[..., dict[str, str]]) -> None:
        """Have a role do what is left after training; late or dead too often, it is missing from a complete run."""
        for process in self.plan.with_role(role):
            process = self.plan.after_training(process)
            self._start(process)
            clock = ComputeClock()
            self._wait(lambda process=process, clock=clock: self._is_over(process, clock))
            if (child := self.children.named(process.name)).plans == GIVEN_UP:
                self._ended += self.children.wait_for_killed()
                self.missing.append(missing(self.config, self.run_dir, how_it_ended(child)))

    def _is_over(self, process: ProcessSpec, clock: ComputeClock) -> bool:
        child, limit_s = self.children.named(process.name), self.config.evaluate.timeout_s
        if child.alive and clock.look(child.popen.pid) > limit_s:
            self._give_up_role(child, f"{process.label} did not finish within {limit_s:g} s")
        return child.done or child.plans == GIVEN_UP

    # ---- the loop

    def _wait(self, done: Callable[[], bool]) -> None:
        """Run the loop until `done`."""
        while True:
            try:
                if done():
                    return
                self._look()
            except LockTimeout as error:
                self._kill_holder(error)

    def _look(self) -> None:
        """Look at everything once, do what is due, and pause."""
        if self.signals.received:
            raise Interrupted
        if self.signals.asked_to_pause:
            self.monitor.pause(self.signals.pause)
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

    def _look_at_ring(self, now: float) -> None:
        self.progress.ring.reap()
        self.stats = self.progress.stats()
        to_start = [process.label for process in self._to_start.left]
        self.monitor.show(self.progress.ring, self.stats, self.tail, self.children.all, to_start)
        silent = self.heartbeats.silent(self.children.with_role(*IN_RING), self.stats, now)
        if silent:
            self._kill_silent(*silent)

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
        """What a child that ended by itself without an error left undone."""
        left = child.process.kind.left_undone(self.progress, child.process)
        by = "perhaps by a SIGTERM that was not the supervisor's"
        return left and f"{child.process.label} ended, {by}, {left}"

    def _kill_silent(self, child: Child, reason: str) -> None:
        child.reason = reason
        child.signal(signal.SIGABRT)  # faulthandler writes its stacks into the log
        deadline = time.monotonic() + STACKS_LIMIT_S
        while child.alive and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self._ended += self.children.reap()
        self.children.kill([child])

    def _kill_holder(self, error: LockTimeout) -> None:
        holders = [child for child in self.children.all if child.alive and child.popen.pid == error.pid]
        if not holders:
            raise error
        holders[0].reason = f"{holders[0].process.label} stood still holding the ring's mutex and was killed"
        self.children.kill(holders)

    # ---- deaths

    def _lost(self, child: Child, reason: str) -> None:
        """Have a process that died restarted, or the run go on without it.

        Raises:
            ChildDied: Neither is possible.
        """
        child.lost = True
        role = child.process.kind
        blames_input = child.returncode == 2  # and would the next time
        if blames_input and role.if_lost is not IfLost.WITHOUT_ROLE:
            raise ChildDied(child, reason)
        if role.restarts_together:
            self._lost_rank(child, reason)
            return
        pause = self.restarts.pause(child.process.name, self._progressed(child))
        if pause is not None and not blames_input:
            self._plan_restart(child, child.process.name, reason, pause, lambda: self._start(child.process))
        elif role.if_lost is IfLost.WITHOUT_ROLE:
            self._give_up_role(child, reason)
        elif role.if_lost is IfLost.WITHOUT_GENERATOR:
            self._give_up_renderer(child, reason)
        else:
            raise self._too_often(child, reason, child.process.name)

    def _progressed(self, child: Child) -> bool:
        """Whether a child that died got further than its predecessor."""
        if child.process.replica:  # what its siblings render is no progress of its own
            rows = self.progress.stats().processes
            return any(row["pid"] == child.popen.pid and row["busy_s"] > 0 for row in rows)
        return child.process.kind.work(self.progress, child.process) > child.work_before

    def _lost_rank(self, child: Child, reason: str) -> None:
        """Restart all ranks from the last checkpoint, in deterministic mode with the ring of that time."""
        role = child.process.role
        pause = self.restarts.pause(role, self._progressed(child))
        if pause is None:
            raise self._too_often(child, reason, role)
        gone = self.children.with_role(role)
        if self.plan.ring.deterministic:
            gone = self.children.with_role(*IN_RING, "evaluator")
            self._due.clear()
        for other in gone:
            other.stopping = True
        self.children.kill(other for other in gone if other is not child)
        again = [other.process for other in gone]
        self._plan_restart(child, role, reason, pause, lambda: self._restart_ranks(again))

    def _restart_ranks(self, processes: list[ProcessSpec]) -> None:
        self._ended += self.children.wait_for_killed()
        deterministic = self.plan.ring.deterministic
        if deterministic:
            self.progress.close_ring()
        spec = self.plan.ring if deterministic else None
        step, ring = resume.last_usable(self.run_dir, self.config, spec, say, self.signals.check)
        if ring is not None:
            self.progress.replace_ring(ring)
            self.children.ring_fd = ring.fd
        resume.rewind(self.run_dir, step, self.config.train.steps)
        self.first_step_at = self.first_step_at or self.tail.first_seen
        self.tail.start_again()
        self._start(*processes)

    def _plan_restart(self, child: Child, name: str, reason: str, pause_s: float, start: Callable[[], None]) -> None:
        child.plans = f"died, starts again within {pause_s:g} s"
        in_a_row = self.restarts.in_a_row(name)
        record_event(self.run_dir, "restart", process=name, reason=reason, pause_s=pause_s, in_a_row=in_a_row)
        self.monitor.say(f"{reason}; it starts again in {pause_s:g} s, log: {child.log}")
        self._due.append((time.monotonic() + pause_s, start))

    def _give_up_renderer(self, child: Child, reason: str) -> None:
        siblings = [
            other
            for other in self.children.with_role(child.process.role)
            if other is not child and other.process.generator == child.process.generator and other.plans != GIVEN_UP
        ]
        if child.process.replica and siblings:
            child.plans = GIVEN_UP
            self.monitor.say(f"{reason}, too often in a row: the run goes on with {len(siblings)} of its renderers")
        else:
            self._give_up_generator(child, reason)

    def _give_up_generator(self, child: Child, reason: str) -> None:
        generators, lost = self.plan.ring.generators, child.process.generator
        down = {*self.progress.stats().generators_down, lost}
        if lost is None or self.plan.ring.deterministic or len(down) == len(generators):
            raise self._too_often(child, reason, child.process.name)
        self.progress.ring.generator_down(generators.index(lost))
        child.plans = GIVEN_UP
        text = without(self.config, down)
        record_event(self.run_dir, "degraded", generator=lost, reason=reason, step=self.stats.step, text=text)
        self.monitor.degraded(text)
        self.monitor.say(f"{reason}, too often in a row: the run goes on {text}")

    def _give_up_role(self, child: Child, reason: str) -> None:
        child.stopping, child.plans, child.reason = True, GIVEN_UP, reason
        self.children.kill([child])
        record_event(self.run_dir, child.process.role, reason=reason)
        self.monitor.say(f"{reason}: {child.process.kind.without}, log: {child.log}")

    def _too_often(self, child: Child, reason: str, name: str) -> ChildDied:
        again = self.restarts.in_a_row(name)
        return ChildDied(child, f"{reason}{f' ({again} restarts without progress before)' if again else ''}")

    # ---- the end

    def _stop_on_signal(self, number: int) -> str:
        """Let the trainer write its checkpoint, then stop the others. Returns what to tell the user."""
        trainers = [trainer for trainer in self.children.with_role("trainer") if trainer.alive]
        self._stop(trainers, self.config.launch.grace_s)
        self._stop(self.children.all, PRODUCER_GRACE_S)
        checkpoint = last_checkpoint(self.run_dir)
        where = f"step {checkpoint[0]}, checkpoint at {checkpoint[1]}" if checkpoint else "step 0, no checkpoint yet"
        message = f"stopped at {where} ({signal.Signals(number).name})"
        for trainer in trainers:
            # SIGTERM ends a trainer only while it starts, with nothing to lose; later it writes its checkpoint.
            if trainer.returncode and trainer.returncode != -signal.SIGTERM:
                message += f"\nerror: while stopping, {how_it_ended(trainer)}\n  log: {trainer.log}"
        return message

    def _stop(self, children: list[Child], grace_s: float, at_once: Iterable[Child] = ()) -> None:
        """Stop processes, patiently until a further signal reaches the supervisor."""
        limits = {child: min(grace_s, PRODUCER_GRACE_S) for child in at_once}
        limits |= dict.fromkeys(children, grace_s)
        self.children.stop(limits, lambda: len(self.signals.received) > self._signals_heeded)

    def _explain(self, error: Exception) -> str:
        """Say in a line what ended the run; an unexpected error leaves its traceback in a log."""
        if isinstance(error, PolygenError):
            return str(error)
        log = self.folder.logs / "supervisor.log"
        with suppress(OSError):
            log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        return f"the supervisor failed: {type(error).__name__}: {error}\n  log: {log}"

    def _end(self, status: str, message: str | None) -> bool:
        """Leave nothing of the run but its folder: first what it did, in summary.json, and last what is shown.

        Returns:
            Whether the summary is there.
        """
        try:
            self.children.close()
        finally:
            try:
                result, problem = self._summarize(status, message)
            finally:
                self.monitor.close()
                self.progress.close_ring()
                if status == "completed" and not self.config.ring.keep_file and (left := remove_file(self.run_dir)):
                    say(f"warning: {left}")
        summary.conclude(result, self.run_dir)
        if problem:
            say(f"error: cannot write {self.folder.summary}: {problem.strerror}")
        return problem is None

    def _summarize(self, status: str, message: str | None) -> tuple[dict, OSError | None]:
        """Write summary.json, and return its content, and why it could not be written."""
        self.tail.read()
        with suppress(PolygenError):  # the ring itself may have failed the run: keep the last numbers it gave
            if not self.progress.ring_closed:
                self.stats = self.progress.stats()
                # Images would be most of the ring's memory; how it stood tells why a run ended as it did.
                save_snapshot(self.progress.ring, self.folder.ring_snapshot, payload=False)
        first_step_at = self.first_step_at or self.tail.first_seen
        first_step_s = first_step_at - self.started if first_step_at else None
        seconds = time.monotonic() - self.started
        try:
            result = summary.summarize(
                self.run_dir, status, message, seconds, first_step_s, self.stats, self.missing, no_scores(self.config)
            )
        except (OSError, PolygenError) as problem:  # a file cannot be read: how the run ended is known
            result = summary.incomplete(status, message, seconds, self.missing, problem)
        try:
            write_json(self.folder.summary, result)
        except OSError as problem:
            return result, problem
        return result, None


def say(line: str) -> None:
    """Print a line for the user, on stderr, at once."""
    print(line, file=sys.stderr, flush=True)
