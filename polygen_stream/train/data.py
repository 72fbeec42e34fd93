"""Batches from the ring, as one torchdata node: its state rides in the usual state_dict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchdata.nodes import BaseNode

from polygen_stream.base.errors import PolygenError, RankLost
from polygen_stream.base.seeding import key
from polygen_stream.ring import Draw, DrawRecord, DrawSummary, Kind, Ring, WaitStopped
from polygen_stream.schedule.curriculum import Curriculum, DrawMix
from polygen_stream.schedule.leftover import Group, Lane, LeftoverQueue
from polygen_stream.train.model import Tokenizer
from polygen_stream.train.replay_schedule import ReplaySchedule
from polygen_stream.train.staging import Staging
from polygen_stream.train.step_barrier import Readiness, StepBarrier, no_barrier
from polygen_stream.train.text_image_index import TextImageIndex

_MOST_IMAGES = 1 << 10  # of one text; the config allows no more


@dataclass(frozen=True)
class TrainBatch:
    """One step's worth of training data: N images and T texts, positives before negatives in both.

    Args:
        step: the step it was drawn for.
        mix: what the curriculum asked for.
        images: uint8 [N, H, W, 3] on the device.
        tokens: int64 [T, context length] on the device.
        layout: which image shows which text, and which texts are T-; on the device.
        texts: the captions, T+ then T-.
        names: int64 [N] on the host, tells each image from every other of the run; the same on whichever rank it lies.
        generators: index of the generator of each image, N entries.
        drawn: what the draw log of the step says. With several ranks the leader's is about the batch of all of them.
            None of a batch that comes from no ring.
        waited_s: seconds spent waiting for the ring, and for other ranks' shares.
    """

    step: int
    mix: DrawMix
    images: Tensor
    tokens: Tensor
    layout: TextImageIndex
    texts: tuple[str, ...]
    names: Tensor
    generators: tuple[int, ...]
    drawn: DrawRecord | None
    waited_s: float


class RingReader(BaseNode[TrainBatch]):
    """Draws the curriculum's mix of every step until `steps`.

    The lease on a draw ends as soon as its pixels are copied. When `stop` turns true the reader ends as at the last
    step, and neither its state nor the curriculum counts the batch it never got.

    Ranks get a batch all or none (gate.py): when one is stopping, each ends at the same step; when one has no batch,
    it raises what it lacks and the others RankLost with its name.

    Its state has the curriculum's, which it alone moves on. With a deterministic ring a reader that continues from a
    state gets the batches that an uninterrupted one would have got.

    Args:
        rank, world: which of how many training processes of this node this is. Each needs a curriculum of its own.
            Rank 0 draws for all of them, and each gets its slice off the ring's draw board: groups, and so texts, are
            shared out evenly, images only about so.
        nodes: how many there are; each draws from its own ring.
        steps: steps of the whole run.
        timeout_s: longest wait for a batch; then RingTimeout names who lags.
        stop: asked before every draw and while waiting.
        gate: what the ranks agree by.
        leftover: keeps what the batches leave behind and has it drawn first; rank 0's, for it draws, with a ring in
            throughput mode. A ring hands out whole groups of whole batches, so that its ragged lane stays empty.
        script: what another run drew, for a ring in replay mode.
    """

    def __init__(
        self,
        ring: Ring,
        curriculum: Curriculum,
        tokenizer: Tokenizer,
        staging: Staging,
        device: torch.device,
        *,
        steps: int,
        timeout_s: float,
        stop: Callable[[], bool],
        rank: int = 0,
        world: int = 1,
        nodes: int = 1,
        gate: StepBarrier = no_barrier,
        leftover: LeftoverQueue | None = None,
        script: ReplaySchedule | None = None,
    ) -> None:
        super().__init__()
        assert leftover is None or (rank == 0 and not ring.spec.deterministic), "a leftover queue is for who draws"
        self._ring = ring
        self._curriculum = curriculum
        self._tokenizer = tokenizer
        self._staging = staging
        self._device = device
        self._steps = steps
        self._timeout_s = timeout_s
        self._stop = stop
        self._rank = rank
        self._world = world
        self._nodes = nodes
        self._gate = gate
        self._leftover = leftover
        self._script = script
        self._step = 0

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        super().reset(initial_state)
        self._step = 0
        if initial_state is not None:
            self._step = initial_state["step"]
            self._curriculum.load_state_dict(initial_state["curriculum"])
            if self._leftover is not None:
                self._leftover.load_state_dict(initial_state["leftover"])
                self._leftover.settle(self._ring.held())

    def get_state(self) -> dict[str, Any]:
        state = {"step": self._step, "curriculum": self._curriculum.state_dict()}
        if self._leftover is not None:
            state["leftover"] = self._leftover.state_dict()
        return state

    def next(self) -> TrainBatch:
        if self._step == self._steps:
            raise StopIteration
        before = self._curriculum.state_dict()
        mix = self._curriculum.draw(self._step)
        draw, post, waited_s, verdict, problem = None, None, 0.0, Readiness.READY, None
        try:
            draw, post, waited_s = self._offer(mix)
        except WaitStopped:
            verdict = Readiness.STOPPING
        except PolygenError as lack:
            verdict, problem = Readiness.FAILED, lack
        began = time.monotonic()
        agreed, rank = self._gate(self._step, verdict)
        if agreed is not Readiness.READY:
            if draw is not None:  # of a node with one rank, while another node has none
                self._ring.release(draw)
            self._curriculum.load_state_dict(before)
            if problem is not None:
                raise problem
            if agreed is Readiness.FAILED:
                where = f"rank {rank} (node {rank // self._world})" if self._nodes > 1 else f"rank {rank}"
                raise RankLost(f"step {self._step}: {where} has no batch and says why")
            raise StopIteration
        if draw is None:  # what was posted is there: the gate has seen to that
            waited_s += time.monotonic() - began
            draw = self._ring.receive(self._step, self._rank, self._world, self._timeout_s, self._stop)
        try:
            if self._leftover is not None:
                self._keep_leftovers(self._leftover, post, mix)
            if self._script is not None and post is not None:
                self._script.keep(self._ring, post)
            batch = self._assemble(draw, mix, draw.record if post is None else post.record, waited_s)
        finally:
            self._ring.release(draw)
        self._step += 1
        return batch

    def _offer(self, mix: DrawMix) -> tuple[Draw | None, DrawSummary | None, float]:
        """This process's part in the batch of the step, and the seconds it waited.

        A single one draws; of several rank 0 posts, and the others have nothing to do until the gate.
        """
        if self._stop():
            raise WaitStopped(f"step {self._step}: the process is stopping")
        if self._rank > 0:
            return None, None, 0.0
        ring, waiting = self._ring, (self._timeout_s, self._stop)
        first: list[Group] = []
        exactly = self._script and self._script.tasks(self._step, mix.plain, mix.pair)
        if self._leftover is not None:
            self._leftover.expire(self._step)
            first = self._leftover.waiting(Lane.DISPLACED) + self._leftover.waiting(Lane.UNADMITTED)
        if self._world > 1:
            post, waited_s = ring.broadcast(
                self._step, mix.plain, mix.pair, self._world, *waiting, first=first, exactly=exactly
            )
            return None, post, waited_s
        draw = ring.draw(self._step, mix.plain, mix.pair, *waiting, first=first, exactly=exactly)
        return draw, draw.summary, draw.waited_s

    def _keep_leftovers(self, queue: LeftoverQueue, post: DrawSummary, mix: DrawMix) -> None:
        """Tells the queue what was drawn, and what this batch left behind.

        Without its hard negatives the batch would have had as many more captions: the oldest that nobody has seen.
        """
        record = post.record
        groups = list(zip(post.rows, record.generations, strict=True))
        queue.drawn(Lane.DISPLACED, groups)
        queue.drawn(
            Lane.UNADMITTED, [group for group, kind in zip(groups, record.kinds, strict=True) if kind is Kind.PAIR]
        )
        for group in self._ring.unseen(mix.pair):
            queue.put(Lane.DISPLACED, group, record.step)
        for group, kind, has_negative in zip(groups, record.kinds, post.has_negative, strict=True):
            if has_negative and kind is Kind.PLAIN:
                queue.put(Lane.UNADMITTED, group, record.step)

    def _assemble(self, draw: Draw, mix: DrawMix, drawn: DrawRecord, waited_s: float) -> TrainBatch:
        pairs = [group for group in draw.groups if group.kind is Kind.PAIR]
        texts = [group.caption for group in draw.groups] + [group.negative for group in pairs]
        slots = [group.positive_slots for group in draw.groups] + [group.negative_slots for group in pairs]
        generators = [group.positive_generators for group in draw.groups]
        generators += [group.negative_generators for group in pairs]
        layout, names = describe(
            texts,
            [len(of_text) for of_text in slots],
            [group.task_id for group in draw.groups],
            [group.task_id for group in pairs],
        )
        return TrainBatch(
            step=draw.step,
            mix=mix,
            images=self._staging.load(self._ring, [slot for of_text in slots for slot in of_text]),
            tokens=self._tokenizer(texts).to(self._device, non_blocking=True),
            layout=layout.to(self._device),
            texts=tuple(texts),
            names=names,
            generators=tuple(g for of_text in generators for g in of_text),
            drawn=drawn,
            waited_s=waited_s,
        )


def describe(
    texts: Sequence[str], images: Sequence[int], tasks: Sequence[int], pair_tasks: Sequence[int]
) -> tuple[TextImageIndex, Tensor]:
    """The layout of a batch on the host, and the names of its images, int64 [N].

    Args:
        texts: T+ of all tasks, then T- of those that are there with their negative.
        images: how many images each text has; they lie in the order of the texts.
        tasks: task id of each T+.
        pair_tasks: task id of each T-.
    """
    counts = torch.tensor(images)
    image_text = torch.repeat_interleave(torch.arange(len(texts)), counts)
    text_name = torch.tensor([2 * task for task in tasks] + [2 * task + 1 for task in pair_tasks])
    place = torch.arange(len(image_text)) - (counts.cumsum(0) - counts)[image_text]  # among the text's images
    text_negative = torch.arange(len(texts)) >= len(tasks)
    # Signed 64 bits that other ranks agree on. A rank's ring gives no caption twice, the ranks of two nodes may.
    text_caption = torch.tensor([key(text) >> 1 for text in texts])
    return TextImageIndex.of(image_text, text_negative, text_caption), text_name[image_text] * _MOST_IMAGES + place
