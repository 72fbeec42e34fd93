"""One node's run in simulated time: its ring is a real one, and so are the rules by which it is filled and drawn from.

Real are the ring with its limiter, bounds, eviction and draws, the curriculum, the ledger, and what the captioner asks
for and when. Simulated is what takes time: language models, generators, training steps, the polling of idle processes.
Pictures are one pixel large; nobody looks at them.

Further nodes are not simulated: they are like this one, so at every step the gate waits for the slowest of them, which
comes as much later as the largest of their deviations from the mean is larger than this node's own. A node's captions
and draws are its share of the run's.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import simpy

from polygen_stream.base import seeding
from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, CaptionSource
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.producers import pause, renderer
from polygen_stream.producers.task_scheduler import TaskCursor, TaskScheduler, members_of, target_of
from polygen_stream.ring import GroupRequest, Kind, Ring
from polygen_stream.roles.role import RoleContext
from polygen_stream.schedule.ledger import CaptionTask
from polygen_stream.simulate.hardware import ModelTimes, Placement

Steps = Generator[simpy.Event, object, None]  # a SimPy process


@dataclass
class Outcome:
    """What a simulated run came to, of one node. Seconds are simulated ones, counted from the start.

    waited_s and worked_s have an entry for each step: waiting for the ring, the GPU and other nodes; and training.
    """

    waited_s: list[float] = field(default_factory=list)
    worked_s: list[float] = field(default_factory=list)
    finished_s: float = 0.0
    images: dict[str, int] = field(default_factory=dict)
    images_drawn: int = 0
    captions: int = 0
    reuse: float = 0.0
    negatives: int = 0  # hard negatives that were rendered
    negatives_unused: int = 0  # of those, never drawn as such

    @property
    def waiting_share(self) -> float:
        """From the first step on, as a run's own waiting share: what comes before is loading and filling."""
        waited = sum(self.waited_s[1:])
        return waited / (waited + sum(self.worked_s[1:]) or 1.0)

    @property
    def steps_per_second(self) -> float:
        """Between the ends of the first and the last step."""
        seconds = sum(self.waited_s[1:]) + sum(self.worked_s[1:])
        return (len(self.worked_s) - 1) / seconds if seconds else 0.0


class Numbered(CaptionSource):
    """Captions of any bank: all that matters is that they differ."""

    concepts = ("thing",)
    provenance = {}  # noqa: RUF012 nobody journals them
    pending = 0

    def __init__(self, config: RunConfig) -> None:
        self.axes = tuple(config.captions.axes) or ("any",)
        self._written: list[Caption] = []

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        text = f"caption {task.task_id}"
        self._written.append(Caption(text, f"not {text}" if with_negative else None))

    def collect(self) -> list[Caption]:
        written, self._written = self._written, []
        return written


def simulate_node(
    config: RunConfig, times: ModelTimes, placement: Placement, nodes: int = 1, source: CaptionSource | None = None
) -> Outcome:
    """Runs a node's share of a run to its last step.

    Args:
        config: of the node: its batch is what its own ranks train on.
        nodes: how many such nodes there are.
        source: of captions; numbers instead of words if there is none.

    Raises:
        UserError: it stands still for ever, or the config asks for what is not simulated.
    """
    if config.curriculum.leftover_age or config.ring.mode != "throughput":
        raise UserError(
            f"curriculum.leftover_age = {config.curriculum.leftover_age} with ring.mode = {config.ring.mode!r} is not "
            "simulated: set curriculum.leftover_age = 0 and ring.mode = 'throughput'"
        )
    with closing(Ring.create(replace(ring_spec(config), image_shape=(1, 1, 3)))) as ring:
        return _Node(config, times, placement, nodes, source or Numbered(config), ring).run()


class _Node:
    def __init__(
        self, config: RunConfig, times: ModelTimes, placement: Placement, nodes: int, source: CaptionSource, ring: Ring
    ) -> None:
        self.config, self.times, self.placement, self.nodes, self.ring = config, times, placement, nodes, ring
        self.source = source
        self.clock = simpy.Environment()
        self.gpus = [simpy.Resource(self.clock) for _ in range(placement.gpus)]
        # Of the ring, renewed whenever one has fired: a group was opened, pictures came, a batch was drawn.
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
                f"the simulated run stands still at step {stats.step}: groups {stats.groups}, limiter {stats.limiter}"
            ) from problem
        return self._concluded()

    def _concluded(self) -> Outcome:
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
        """As producers/captioner.py, with a source that writes what it is handed as one batch."""
        config, ring, source = self.config, self.ring, self.source
        context, begun = RoleContext(config, Path(), ring, "captioner", None), TaskCursor(config.launch.node)
        orders = TaskScheduler(context, source, begun, clock=lambda: self.clock.now)
        while begun.opened < target_of(config):
            stats = ring.stats()
            wanted = orders.wanted(stats, 0)
            if not wanted:
                yield from self._idle(self.filled, pause.POLL_S)
                continue
            for task, kind in orders.next(wanted, stats):
                source.submit(task, kind is Kind.PAIR)
            yield from self._compute(self.placement.captioner, self.times.caption_s * wanted)
            for caption in source.collect():
                task, kind = orders.done()
                members = members_of(task, kind, config.generators.negatives)
                request = GroupRequest(task.task_id, kind, caption.text, caption.negative, members)
                while not ring.try_open([request]):
                    yield self.drawn | self.filled
                if kind is Kind.PAIR:
                    self._pairs.add(task.task_id)
                begun.opened += 1
                self._notify("opened")
        ring.finish_opening()
        self._notify("opened")
        self._notify("filled")

    def _render(self, generator: int, gpu: int) -> Steps:
        """As producers/renderer.py."""
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
        """As train/run.py: the ranks of the node take one step together."""
        config, ring, outcome, times = self.config, self.ring, self.outcome, self.times
        curriculum, ranks = curriculum_of(config), self.placement.trainers
        for step in range(config.train.steps):
            mix, asked = curriculum.draw(step), self.clock.now
            while (draw := ring.try_draw(step, mix.plain, mix.pair)) is None:
                self._notify("drawn")  # it is starving now, which lets groups in that the limiter holds back
                yield self.filled
            images = sum(len(group.positive_slots) + len(group.negative_slots) for group in draw.groups)
            self._drawn.update(group.task_id for group in draw.groups if group.kind is Kind.PAIR)
            ring.release(draw)
            self._notify("drawn")
            outcome.images_drawn += images
            work_s = times.step_s + times.trained_image_s * images / len(ranks)
            late_s = self._late(self.clock.now - asked + work_s)
            yield self.clock.all_of([self.clock.process(self._compute(gpu, work_s)) for gpu in ranks])
            if late_s:
                yield self.clock.timeout(late_s)
            outcome.worked_s.append(work_s)
            outcome.waited_s.append(round(self.clock.now - asked - work_s, 9))  # floating seconds leave dust
            ring.set_step(step + 1)

    # ---- time

    def _compute(self, gpu: int, seconds: float) -> Steps:
        with self.gpus[gpu].request() as turn:
            yield turn
            yield self.clock.timeout(seconds)

    def _idle(self, change: simpy.Event, poll_s: float) -> Steps:
        """Until the first look, every `poll_s`, after a change."""
        began = self.clock.now
        yield change
        yield self.clock.timeout(poll_s - (self.clock.now - began) % poll_s)

    def _notify(self, change: str) -> None:
        getattr(self, change).succeed()
        setattr(self, change, self.clock.event())

    def _varied(self, seconds: float) -> float:
        return seconds * max(0.0, 1.0 + self.times.jitter * self._random.standard_normal())

    def _late(self, seconds: float) -> float:
        """By how much the slowest node is later than this one at a step that takes it `seconds`."""
        deviations = self._random.standard_normal(self.nodes)
        return seconds * self.times.jitter * float(deviations.max() - deviations[0])
