"""Simulation of one node's run: a real ring, filled and drawn from by the real rules, on a simulated clock.

Real: the ring with its rate limiter, bounds, eviction and draws; the curriculum; the ledger; and which captions the
captioner requests, and when. Simulated: whatever takes time, that is language models, generators, training steps and
the polling of idle processes. Images are one pixel large, since nothing looks at them.

Further nodes are not simulated. They behave like this one, so at every step the step barrier waits for the slowest of
them: it comes later than this node by as much as the largest of their random deviations exceeds this node's own. A
node's captions and draws are its share of the run's.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.config import RunConfig, curriculum_of, groups_in_flight
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.producers import pause, renderer
from polygen_stream.producers.task_scheduler import TaskCursor, TaskScheduler, group_members, target_groups
from polygen_stream.ring import DrawRequest, GroupRequest, Kind, Ring
from polygen_stream.ring.pins import most_pinned
from polygen_stream.roles.role import RoleContext
from polygen_stream.schedule.ledger import CaptionTask
from polygen_stream.schedule.other_sides import OtherSides
from polygen_stream.simulate.hardware import ModelTimes, Placement
from polygen_stream.simulate.outcome import Outcome

if TYPE_CHECKING:
    import simpy

Steps = Generator["simpy.Event", object, None]  # a SimPy process


class NumberedCaptions(CaptionSource):
    """Captions that are only numbered: the simulation needs them to differ, and reads nothing else of them."""

    concepts = ("thing",)

    def __init__(self, config: RunConfig) -> None:
        self.axes = tuple(config.captions.axes) or ("any",)
        self._written: list[Caption | Dropped] = []

    @property
    def provenance(self) -> Mapping[str, object]:
        """Return nothing: a simulation writes no journal."""
        return {}

    @property
    def pending(self) -> int:
        """Number of captions written and not yet collected."""
        return len(self._written)

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        """Write the task's number as its caption."""
        text = f"caption {task.task_id}"
        self._written.append(Caption(text, f"not {text}" if with_negative else None))

    def collect(self) -> list[Caption | Dropped]:
        """Return everything submitted since the last call."""
        written, self._written = self._written, []
        return written


def simulate_node(
    config: RunConfig, times: ModelTimes, placement: Placement, nodes: int = 1, source: CaptionSource | None = None
) -> Outcome:
    """Simulate one node's share of a run up to its last step.

    Args:
        config: Config of the node; train.batch is what the node's own ranks train on.
        times: How long the models take.
        placement: The GPU of each process.
        nodes: Number of nodes like this one, itself included.
        source: Source of captions that drops none; None: numbered captions.

    Raises:
        UserError: SimPy is not installed, the config asks for what is not simulated, or the simulated run comes to a
            standstill.
    """
    try:
        import simpy
    except ImportError:
        raise UserError("simulate needs the simpy package: pip install 'polygen-stream[simulate]'") from None
    if config.curriculum.leftover_age or config.ring.mode != "throughput":
        raise UserError(
            f"curriculum.leftover_age = {config.curriculum.leftover_age} with ring.mode = {config.ring.mode!r} is not "
            "simulated: set curriculum.leftover_age = 0 and ring.mode = 'throughput'"
        )
    # There is no model that could be wrong about anything.
    config = config.model_copy(update={"synthesis": config.synthesis.model_copy(update={"policy": "uniform"})})
    clock = simpy.Environment()
    gpus = [simpy.Resource(clock) for _ in range(placement.gpus)]
    renderers = -(-len(placement.renderers) // len(config.generators.names))
    spec = replace(ring_spec(config), image_shape=(1, 1, 3), in_flight=groups_in_flight(config, renderers), storage="")
    with closing(Ring.create(spec)) as ring:
        return _Node(config, times, placement, nodes, source or NumberedCaptions(config), ring, clock, gpus).run()


class _Node:
    def __init__(
        self,
        config: RunConfig,
        times: ModelTimes,
        placement: Placement,
        nodes: int,
        source: CaptionSource,
        ring: Ring,
        clock: simpy.Environment,
        gpus: list[simpy.Resource],
    ) -> None:
        self.config, self.times, self.placement, self.nodes, self.ring = config, times, placement, nodes, ring
        self.source, self.clock, self.gpus = source, clock, gpus
        # Events of the ring, each replaced when it fires: a group was opened, images were committed, a batch was drawn.
        self.opened, self.filled, self.drawn = (self.clock.event() for _ in range(3))
        self.outcome = Outcome()
        self._random = seeding.rng(config.seed, "simulation")
        self._pairs: set[int] = set()  # tasks with a hard negative
        self._drawn: set[int] = set()  # of those, drawn with it
        ring.register("simulation", "simulation")

    def run(self) -> Outcome:
        clock = self.clock
        training = clock.process(self._train())
        clock.process(self._write())
        for name, gpu in self.placement.renderers:
            clock.process(self._render(self.config.generators.names.index(name), gpu))
        try:
            clock.run(until=training)
        except RuntimeError as problem:
            if training.triggered:
                raise
            stats = self.ring.stats()
            raise UserError(
                f"the simulated run comes to a standstill at step {stats.step}: groups {stats.groups}, "
                f"limiter {stats.limiter}"
            ) from problem
        return self._collect_outcome()

    def _collect_outcome(self) -> Outcome:
        outcome, stats = self.outcome, self.ring.stats()
        outcome.finished_s = self.clock.now
        outcome.images = dict(stats.images_committed)
        outcome.captions, outcome.reuse = stats.groups_opened, stats.mean_reuse
        open_pairs = stats.groups["pair"]["open"]
        outcome.negatives = len(self._pairs) - open_pairs
        outcome.negatives_unused = outcome.negatives - len(self._drawn)
        return outcome

    # ---- roles

    def _write(self) -> Steps:
        """Simulate producers/captioner.py with a source that writes the tasks it is given as one batch."""
        config, ring, source = self.config, self.ring, self.source
        context, cursor = RoleContext(config, Path(), ring, "captioner", None), TaskCursor(config.launch.node)
        scheduler = TaskScheduler(context, source, cursor, clock=lambda: self.clock.now)
        while cursor.opened < target_groups(config):
            stats = ring.stats()
            wanted = scheduler.count_wanted(stats, 0)
            if not wanted:
                yield from self._idle(self.filled, pause.POLL_S)
                continue
            for task, kind, _ in scheduler.next_tasks(wanted, stats):
                source.submit(task, kind is Kind.PAIR)
            yield from self._compute(self.placement.captioner, self.times.caption_s * wanted)
            for caption in source.collect():
                assert isinstance(caption, Caption), "sources of a simulation drop no caption"
                task, kind, _ = scheduler.finish_oldest()
                members = group_members(task, kind, config.generators.negatives)
                request = GroupRequest(task.task_id, kind, caption.text, caption.negative, members)
                while not ring.try_open([request]):
                    yield self.drawn | self.filled
                if kind is Kind.PAIR:
                    self._pairs.add(task.task_id)
                cursor.opened += 1
                self._notify("opened")
        ring.finish_opening()
        self._notify("opened")
        self._notify("filled")

    def _render(self, generator: int, gpu: int) -> Steps:
        """Simulate producers/renderer.py."""
        config, ring, times = self.config, self.ring, self.times
        name = config.generators.names[generator]
        while True:
            claims = ring.claim([generator], config.generators.batch)
            if not claims:
                stats = ring.stats()
                if stats.finished_opening and stats.backlog[name] == 0:
                    return
                yield from self._idle(self.opened, renderer.POLL_S)
                continue
            yield from self._compute(gpu, self._varied(times.call_s + times.image_s[name] * len(claims)))
            ring.commit(claims, np.zeros((len(claims), 1, 1, 3), np.uint8))
            self._notify("filled")

    def _train(self) -> Steps:
        """Simulate train/run.py: the ranks of the node take one step together."""
        config, ring, outcome, times = self.config, self.ring, self.outcome, self.times
        curriculum, ranks = curriculum_of(config), self.placement.trainers
        by_coin = config.curriculum.kind == "co_occurrence"
        waiting = OtherSides(ring, config.seed, config.train.batch, most_pinned(ring.spec)) if by_coin else None
        for step in range(config.train.steps):
            mix, began = curriculum.draw(step), self.clock.now
            left = config.train.steps - step - 1
            request = DrawRequest(step, mix.plain, mix.pair, by_coin=by_coin, steps_left=left)
            if waiting is not None and (sides := waiting.batch(step)):
                request = DrawRequest(step, len(sides), 0, other_sides=sides)
            while (draw := ring.try_draw(request)) is None:
                self._notify("drawn")  # the trainer is starving, so the rate limiter admits groups that it held back
                yield self.filled
            images = sum(len(group.positive_slots) + len(group.negative_slots) for group in draw.groups)
            self._drawn.update(group.task_id for group in draw.groups if group.kind is not Kind.PLAIN)
            if waiting is not None:
                waiting.drawn(request.other_sides)
                waiting.put([] if request.other_sides else draw.summary.other_sides)
            ring.release(draw)
            self._notify("drawn")
            outcome.images_drawn += images
            work_s = times.step_s + times.trained_image_s * images / len(ranks)
            late_s = self._late(self.clock.now - began + work_s)
            yield self.clock.all_of([self.clock.process(self._compute(gpu, work_s)) for gpu in ranks])
            if late_s:
                yield self.clock.timeout(late_s)
            outcome.worked_s.append(work_s)
            # Rounded, because sums of floating-point seconds leave a residue.
            outcome.waited_s.append(round(self.clock.now - began - work_s, 9))
            ring.set_step(step + 1)

    # ---- time

    def _compute(self, gpu: int, seconds: float) -> Steps:
        with self.gpus[gpu].request() as granted:
            yield granted
            yield self.clock.timeout(seconds)

    def _idle(self, change: simpy.Event, poll_s: float) -> Steps:
        """Wait for the first poll, one every `poll_s`, after a change."""
        began = self.clock.now
        yield change
        yield self.clock.timeout(poll_s - (self.clock.now - began) % poll_s)

    def _notify(self, change: str) -> None:
        getattr(self, change).succeed()
        setattr(self, change, self.clock.event())

    def _varied(self, seconds: float) -> float:
        return seconds * max(0.0, 1.0 + self.times.jitter * self._random.standard_normal())

    def _late(self, seconds: float) -> float:
        """Return by how much the slowest node is later than this one, at a step that takes this one `seconds`."""
        deviations = self._random.standard_normal(self.nodes)
        return seconds * self.times.jitter * float(deviations.max() - deviations[0])
