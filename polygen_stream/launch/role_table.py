"""The roles of a run: one record per kind of process.

The plan reads here what to start, the supervisor what a process has achieved and what to do without it, and the status
who produces. A new role is a module, an entry here, and a place in the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from polygen_stream.launch.progress import RunProgress

MIB = 2**20


class RoleProcess(Protocol):
    """What a role's record looks at in one of its processes; a ProcessSpec of the plan, which reads this table."""

    @property
    def generator(self) -> str | None:
        """The recipe that it renders, None if it is no renderer."""
        ...

    @property
    def leads(self) -> bool:
        """Of a trainer: whether it writes checkpoints and metrics for the ranks of its node."""
        ...


class IfLost(Enum):
    """What becomes of a run when a process has died too often in a row to be started again."""

    RUN_ENDS = "the run ends"
    WITHOUT_GENERATOR = "the run goes on without the images of its generator"
    WITHOUT_ROLE = "the run goes on without it"


@dataclass(frozen=True)
class Role:
    """A kind of process.

    Attributes:
        name: What its processes are called, and their rows in the ring's process table.
        module: Started as `python -m MODULE`.
        memory_bytes: Resident memory at micro scale, measured on Linux/x86-64 with the CPU build of torch. Real models
            come on top of it.
        in_ring: It starts with the run, and shows by its heartbeat in the ring that it is alive.
        produces: It brings captions or images into the ring.
        after_training: It still works when training is done: what it does then is how a run ends.
        restarts_together: Its processes are ranks of one group. If one dies, all are started again.
        if_lost: What becomes of the run without it.
        without: The same in words, if the run goes on without the role.
        work: (progress, process) -> how much the process and its predecessors have achieved, in units of its own. A
            process that died has made progress if this grew.
        left_undone: (progress, process) -> what a process that just ended without an error left undone, if anything.
    """

    name: str
    module: str
    memory_bytes: int
    in_ring: bool = False
    produces: bool = False
    after_training: bool = False
    restarts_together: bool = False
    if_lost: IfLost = IfLost.RUN_ENDS
    without: str = ""
    work: Callable[[RunProgress, RoleProcess], int] = lambda progress, process: 0
    left_undone: Callable[[RunProgress, RoleProcess], str | None] = lambda progress, process: None


def _captions_left(progress: RunProgress, process: RoleProcess) -> str | None:
    return None if progress.stats().finished_opening else "before all captions were in the ring"


def _images_left(progress: RunProgress, process: RoleProcess) -> str | None:
    stats, generator = progress.stats(), process.generator or ""
    done = stats.finished_opening and stats.backlog[generator] == 0
    return None if done else "before all its pictures were rendered"


def _steps_left(progress: RunProgress, process: RoleProcess) -> str | None:
    done, steps = progress.steps_done(), progress.config.train.steps
    return f"at step {done} of {steps}" if process.leads and done < steps else None


def _final_evaluation_left(progress: RunProgress, process: RoleProcess) -> str | None:
    return None if progress.is_evaluated() else "without evaluating the final checkpoint"


def _recording_left(progress: RunProgress, process: RoleProcess) -> str | None:
    return "before the last step" if progress.steps_done() < progress.config.train.steps else None


ROLES = {
    role.name: role
    for role in (
        Role(
            "trainer",
            "polygen_stream.train.run",
            1000 * MIB,
            in_ring=True,
            restarts_together=True,
            work=lambda progress, process: progress.steps_done(),
            left_undone=_steps_left,
        ),
        Role(
            "captioner",
            "polygen_stream.producers.captioner",
            700 * MIB,
            in_ring=True,
            produces=True,
            work=lambda progress, process: progress.stats().known,
            left_undone=_captions_left,
        ),
        Role(
            "renderer",
            "polygen_stream.producers.renderer",
            900 * MIB,
            in_ring=True,
            produces=True,
            if_lost=IfLost.WITHOUT_GENERATOR,
            work=lambda progress, process: progress.stats().images_committed[process.generator or ""],
            left_undone=_images_left,
        ),
        Role(
            "reader",
            "polygen_stream.producers.reader",
            550 * MIB,
            in_ring=True,
            produces=True,
            work=lambda progress, process: progress.stats().known,
            left_undone=_captions_left,
        ),
        Role(
            "recorder",
            "polygen_stream.export.shard_recorder",
            550 * MIB,
            in_ring=True,
            if_lost=IfLost.WITHOUT_ROLE,
            without="the run goes on and writes no more shards",
            work=lambda progress, process: progress.recorded_captions(),
            left_undone=_recording_left,
        ),
        Role(
            "evaluator",
            "polygen_stream.evaluate.run",
            800 * MIB,
            after_training=True,
            if_lost=IfLost.WITHOUT_ROLE,
            without="the run goes on without its scores",
            work=lambda progress, process: progress.evaluations(),
            left_undone=_final_evaluation_left,
        ),
        Role(
            "report",
            "polygen_stream.report.report",
            900 * MIB,
            after_training=True,
            if_lost=IfLost.WITHOUT_ROLE,
            without="the run ends without it",
        ),
        Role("dashboard", "polygen_stream.report.dashboard", 700 * MIB),
    )
}

IN_RING = tuple(role.name for role in ROLES.values() if role.in_ring)
PRODUCERS = tuple(role.name for role in ROLES.values() if role.produces)
