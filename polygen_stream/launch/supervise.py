"""Carrying out a run: its folder and its ring are prepared here, and the rest is the supervisor's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from polygen_stream.base.output import lenient_output
from polygen_stream.config import RunConfig, effects, warmup_warning
from polygen_stream.launch import preflight, resume, ring_file, run_setup
from polygen_stream.launch.events import record_event
from polygen_stream.launch.own_parts import check_own_parts, check_own_recipes
from polygen_stream.launch.process_plan import ProcessPlan, build_process_plan
from polygen_stream.launch.signals import Interrupted, Signals
from polygen_stream.launch.supervisor import Supervisor, say
from polygen_stream.launch.watch.prometheus import MetricsPage
from polygen_stream.ring import Ring, RingSpec


def supervise(
    config: RunConfig,
    run_dir: Path | None = None,
    plan: ProcessPlan | None = None,
    resumed: bool = False,
    fill: Callable[[Path], None] = lambda run_dir: None,
) -> int:
    """Carry out a run.

    Args:
        config: Of the run.
        run_dir: Folder of the run; None: a new one under runs/.
        plan: What to start; None: the config's own plan.
        resumed: `run_dir` holds an unfinished run of this config, which goes on from its last checkpoint.
        fill: Puts into a new run folder what its processes will look for there.

    Returns:
        The exit code. 0: completed. 1: a process died, hung or failed too often; 2: it blamed its input. 130, 143, 129:
        stopped by SIGINT, SIGTERM, SIGHUP, with a checkpoint if the trainer had begun; a second signal kills everything
        at once. Nothing of that depends on whether anybody reads the output.

    Raises:
        UserError: A part of the user's own cannot be used, the driver is too old, the rendezvous cannot be reached, the
            run folder is taken, or the ring does not fit into memory, or its checkpoints not on the disk. Nothing was
            started.
    """
    started = time.monotonic()
    own_parts = check_own_parts(config)
    check_own_recipes(config)
    plan = plan or build_process_plan(config)
    with lenient_output(), Signals() as signals, ExitStack() as stack:
        if resumed:
            if run_dir is None:
                raise ValueError("a run is resumed in its own folder: give run_dir")
            stack.callback(os.close, run_setup.lock_run_folder(run_dir))
            changes = resume.check_config(run_dir, config)
            resume.check_logs(run_dir)
            plan, file = _with_ring_file(config, plan, run_dir)
            held = _hold(file, stack)
            try:
                step, ring = resume.last_usable(run_dir, config, plan.ring, say, signals.check)
            except Interrupted:
                say("stopped before anything was started")
                return 128 + signals.received[0]
        else:
            run_dir = run_setup.choose_run_folder(config, run_dir)
            plan, file = _with_ring_file(config, plan, run_dir)
            held = _hold(file, stack)
            step, ring, changes = 0, _new_ring(plan.ring), []
        with ExitStack() as unless_started:
            if file is not None and not resumed:
                unless_started.callback(file.unlink, missing_ok=True)
            unless_started.callback(ring.close)
            page = None
            if config.launch.prometheus_port:
                page = MetricsPage(config.launch.prometheus_port, config.train.steps)
                stack.callback(page.close)
            preflight.check_start(config, plan, run_dir, resumed)
            if resumed:
                resume.rewind(run_dir, step, config.train.steps)
                run_setup.record_resume(config, run_dir, step, own_parts)
                record_event(run_dir, "resume", step=step)
                for line in effects(changes, config, step):
                    say(line)
                    record_event(run_dir, "changed", text=line)
            else:
                run_setup.create_run_folder(config, run_dir, own_parts)
                stack.callback(os.close, run_setup.lock_run_folder(run_dir))
                fill(run_dir)
            if file is not None:
                ring_file.record_file(run_dir, file)
            if warning := warmup_warning(config.train):
                say(f"warning: {warning}")
            supervisor = Supervisor(config, run_dir, plan, ring, signals, page, started, held)
            unless_started.pop_all()  # from here on the supervisor closes the ring
        return supervisor.run()


def _hold(file: Path | None, stack: ExitStack) -> tuple[int, ...]:
    """Lock the ring's file, if there is one, until the run has ended. Return the descriptor for its processes."""
    if file is None:
        return ()
    descriptor = ring_file.hold(file)
    stack.callback(os.close, descriptor)
    return (descriptor,)


def _new_ring(spec: RingSpec) -> Ring:
    """Make the ring of a new run, whose file, if it has one, is new and empty."""
    try:
        return Ring.create(spec)
    except BaseException:
        if spec.storage:
            Path(spec.storage).unlink(missing_ok=True)
        raise


def _with_ring_file(config: RunConfig, plan: ProcessPlan, run_dir: Path) -> tuple[ProcessPlan, Path | None]:
    """Return the plan with the file of the ring's images in the place of its folder, and the file, if there is one.

    Raises:
        UserError: the file cannot be there.
    """
    file = ring_file.choose_file(config, run_dir)
    if file is None:
        return plan, None
    ring_file.check_file(plan.ring, file)
    earlier = ring_file.recorded_file(run_dir)
    if earlier not in (None, file):
        say(f"ring.storage names another folder than before: the images in {earlier} are not used any more")
    return replace(plan, ring=replace(plan.ring, storage=str(file))), file
