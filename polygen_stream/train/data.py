"""Batches from the ring, as one torchdata node whose state is part of the usual state_dict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torchdata.nodes import BaseNode

from polygen_stream.base.errors import PolygenError, RankLost
from polygen_stream.ring import Draw, DrawnGroup, DrawRecord, DrawRequest, DrawSummary, Kind, Ring, WaitStopped
from polygen_stream.schedule.curriculum import Curriculum, DrawMix
from polygen_stream.schedule.leftover import Group, Lane, LeftoverQueue
from polygen_stream.schedule.other_sides import OtherSides, Side
from polygen_stream.train.batch import TrainBatch, build_index, text_id
from polygen_stream.train.model import Tokenizer
from polygen_stream.train.replay_schedule import ReplaySchedule
from polygen_stream.train.staging import Staging, copy_to_device
from polygen_stream.train.step_barrier import Readiness, StepBarrier, no_barrier


@dataclass(frozen=True)
class _DrawAttempt:
    """What this rank has of a step's batch before the step barrier.

    Args:
        readiness: its vote.
        draw: the leased batch; None on a rank that receives it after the barrier.
        summary: what was drawn for the ranks of this node; None on all but the leader.
        waited_s: seconds of waiting for the ring.
        problem: why there is no batch, if the vote is FAILED.
    """

    readiness: Readiness
    draw: Draw | None = None
    summary: DrawSummary | None = None
    waited_s: float = 0.0
    problem: PolygenError | None = None


class RingReader(BaseNode[TrainBatch]):
    """Draws the batch of each step from the ring, in the curriculum's mix, until `steps`.

    The lease on a draw ends as soon as its pixels are copied. When `stop` returns true the reader ends as after the
    last step, and neither its state nor the curriculum counts the batch that was not delivered.

    Either every rank gets the batch of a step or none does (step_barrier.py): when one rank is stopping, all end at the
    same step; when one has no batch, it raises the reason and the others raise RankLost with its number.

    The reader's state includes that of the curriculum, which only the reader advances. With a deterministic ring, a
    reader that continues from a state gets the batches that an uninterrupted one would have got.

    Args:
        ring: the node's ring.
        curriculum: the draw mix of each step; each rank needs a curriculum of its own.
        tokenizer: [texts] -> int64 [len(texts), context length].
        staging: copies pixels from the ring to the device.
        device: the training device.
        steps: steps of the whole run.
        timeout_s: longest wait for a batch; then RingTimeout says what is lagging.
        stop: asked before every draw and while waiting.
        local_rank: number of this process among the training processes of its node. Rank 0, the leader, draws for all
            of them, and each receives its part from the ring's draw board: groups, and so texts, are divided evenly,
            images only approximately.
        local_world_size: number of training processes of this node.
        nodes: number of nodes; each draws from its own ring.
        step_barrier: vote on whether all ranks have a batch.
        leftover: keeps what the batches left behind and has it drawn first. Leader only, with a ring in throughput
            mode. A ring delivers whole groups of whole batches, so that the ragged lane stays empty.
        other_sides: the texts that a curriculum of co-occurrence has still to show. Leader only, with a ring in
            throughput mode. Without it, in deterministic mode, each draw tosses its coin and none is made up for.
        replay_schedule: what another run drew, for a ring in replay mode. Leader only.
        heartbeat: called with what the reader waits for in the ring; None = the heartbeat of this process.
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
        local_rank: int = 0,
        local_world_size: int = 1,
        nodes: int = 1,
        step_barrier: StepBarrier = no_barrier,
        leftover: LeftoverQueue | None = None,
        other_sides: OtherSides | None = None,
        replay_schedule: ReplaySchedule | None = None,
        heartbeat: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        assert (leftover is None and other_sides is None) or (local_rank == 0 and not ring.spec.deterministic), (
            "a leftover queue belongs to the rank that draws, and to a ring in throughput mode"
        )
        self._ring = ring
        self._curriculum = curriculum
        self._tokenizer = tokenizer
        self._staging = staging
        self._device = device
        self._steps = steps
        self._stop = stop
        self._local_rank = local_rank
        self._local_world_size = local_world_size
        self._nodes = nodes
        self._step_barrier = step_barrier
        self._leftover = leftover
        self._other_sides = other_sides
        self._replay_schedule = replay_schedule
        self._waiting = (timeout_s, stop, heartbeat)
        self._step = 0

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Start at step 0, or continue from what `get_state` returned."""
        super().reset(initial_state)
        self._step = 0
        if initial_state is not None:
            self._step = initial_state["step"]
            self._curriculum.load_state_dict(initial_state["curriculum"])
            if self._leftover is not None:
                self._leftover.load_state_dict(initial_state["leftover"])
                self._leftover.settle(self._ring.pinned())
            if self._other_sides is not None:
                self._other_sides.load_state_dict(initial_state["other_sides"])
                self._other_sides.settle(self._ring.pinned())

    def get_state(self) -> dict[str, Any]:
        """Return the next step and the states of the curriculum and of what waits to be drawn."""
        state = {"step": self._step, "curriculum": self._curriculum.state_dict()}
        if self._leftover is not None:
            state["leftover"] = self._leftover.state_dict()
        if self._other_sides is not None:
            state["other_sides"] = self._other_sides.state_dict()
        return state

    def next(self) -> TrainBatch:
        """Draw the batch of the next step and stage its images on the device.

        Raises:
            StopIteration: the last step is done, or a rank is stopping.
            PolygenError: this rank has no batch, for the reason given.
            RankLost: another rank has no batch, or is gone.
        """
        if self._step == self._steps:
            raise StopIteration
        carry = self._curriculum.state_dict()
        mix = self._curriculum.draw(self._step)
        sides = self._sides_due()
        if sides:
            mix = DrawMix(plain=len(sides), pair=0, share=mix.share)
        attempt = self._try_draw(mix, sides)
        barrier_start = time.monotonic()
        verdict, rank = self._step_barrier(self._step, attempt.readiness)
        if verdict is not Readiness.READY:
            self._curriculum.load_state_dict(carry)
            self._abandon(attempt, verdict, rank)
        draw, waited_s = attempt.draw, attempt.waited_s
        if draw is None:  # the leader has broadcast it: it voted READY after that
            waited_s += time.monotonic() - barrier_start
            draw = self._ring.receive(self._step, self._local_rank, self._local_world_size, *self._waiting)
        try:
            if attempt.summary is not None:
                self._update_pins(attempt.summary, mix, sides)
            record = draw.record if attempt.summary is None else attempt.summary.record
            batch = self._assemble(draw, mix, record, waited_s)
        finally:
            self._ring.release(draw)
        self._step += 1
        return batch

    def _sides_due(self) -> list[Side]:
        """Return the texts of a batch of other sides, if one is due."""
        if self._other_sides is None or not self._other_sides.batch(self._step):
            return []
        # A group whose images are rendered again after a resume is gone if none can be.
        self._other_sides.settle(self._ring.pinned())
        return self._other_sides.batch(self._step)

    def _try_draw(self, mix: DrawMix, sides: Sequence[Side]) -> _DrawAttempt:
        """Draw the step's batch where this rank is the one that draws, and say how that went."""
        try:
            if self._stop():
                raise WaitStopped(f"step {self._step}: the process is stopping")
            if self._local_rank > 0:  # nothing to do until the barrier
                return _DrawAttempt(Readiness.READY)
            return self._draw(mix, sides)
        except WaitStopped:
            return _DrawAttempt(Readiness.STOPPING)
        except PolygenError as problem:
            return _DrawAttempt(Readiness.FAILED, problem=problem)

    def _draw(self, mix: DrawMix, sides: Sequence[Side]) -> _DrawAttempt:
        """Lease the batch of a single rank, or broadcast that of several."""
        first: list[Group] = []
        plain, pair, exactly = mix.plain, mix.pair, None
        by_coin = self._curriculum.kind == "co_occurrence"
        if self._replay_schedule is not None:
            # The other sides of the run that is replayed came when they did.
            mixes = [(plain, pair), *([(self._curriculum.texts, 0)] if by_coin else [])]
            exactly = self._replay_schedule.draw(self._step, mixes)
            pair = exactly.kinds.count(Kind.PAIR)
            plain = len(exactly.kinds) - pair
        if self._leftover is not None:
            self._leftover.expire(self._step)
            first = self._leftover.waiting(Lane.DISPLACED) + self._leftover.waiting(Lane.UNADMITTED)
        left = self._steps - self._step - 1
        request = DrawRequest(self._step, plain, pair, first, exactly, by_coin and not sides, sides, left)
        if self._local_world_size > 1:
            summary, waited_s = self._ring.broadcast(request, self._local_world_size, *self._waiting)
            return _DrawAttempt(Readiness.READY, None, summary, waited_s)
        draw = self._ring.draw(request, *self._waiting)
        return _DrawAttempt(Readiness.READY, draw, draw.summary, draw.waited_s)

    def _abandon(self, attempt: _DrawAttempt, verdict: Readiness, rank: int) -> NoReturn:
        """End a step that the ranks do not take: `rank` gave the deciding vote."""
        if attempt.draw is not None:  # of a node with one rank, while another node has no batch
            self._ring.release(attempt.draw)
        if attempt.problem is not None:
            raise attempt.problem
        if verdict is Readiness.FAILED:
            node = f" (node {rank // self._local_world_size})" if self._nodes > 1 else ""
            raise RankLost(f"step {self._step}: rank {rank}{node} has no batch: see the error in its log")
        raise StopIteration

    def _update_pins(self, summary: DrawSummary, mix: DrawMix, sides: Sequence[Side]) -> None:
        """Pin in the ring what a later batch has to find there, and unpin what this one was the last to need."""
        if self._leftover is not None:
            self._update_leftover(self._leftover, summary, mix)
        if self._other_sides is not None:
            self._other_sides.drawn(sides)
            self._other_sides.put([] if sides else summary.other_sides)
        if self._replay_schedule is not None:
            self._replay_schedule.update_pins(self._ring, summary)

    def _update_leftover(self, queue: LeftoverQueue, summary: DrawSummary, mix: DrawMix) -> None:
        """Tell the queue what was drawn, and what this batch left behind.

        Without its hard negatives the batch would have had as many more captions: the oldest that were never drawn.
        """
        record = summary.record
        groups = list(zip(summary.rows, record.generations, strict=True))
        queue.drawn(Lane.DISPLACED, groups)
        queue.drawn(
            Lane.UNADMITTED, [group for group, kind in zip(groups, record.kinds, strict=True) if kind is Kind.PAIR]
        )
        for group in self._ring.unseen(mix.pair):
            queue.put(Lane.DISPLACED, group, record.step)
        for group, kind, has_negative in zip(groups, record.kinds, summary.has_negative, strict=True):
            if has_negative and kind is Kind.PLAIN:
                queue.put(Lane.UNADMITTED, group, record.step)

    def _assemble(self, draw: Draw, mix: DrawMix, record: DrawRecord, waited_s: float) -> TrainBatch:
        """Turn a leased draw into tensors on the device."""
        pairs = [group for group in draw.groups if group.kind is Kind.PAIR]
        texts = [group.caption for group in draw.groups] + [_negative_caption(group) for group in pairs]
        slots = [group.positive_slots for group in draw.groups] + [group.negative_slots for group in pairs]
        generators = [group.positive_generators for group in draw.groups]
        generators += [group.negative_generators for group in pairs]
        counts = [len(slots_of_text) for slots_of_text in slots]
        index, image_ids = build_index(
            texts,
            counts,
            [text_id(group.task_id, group.kind is Kind.NEGATIVE) for group in draw.groups]
            + [text_id(group.task_id, True) for group in pairs],
            len(pairs),
        )
        boards = [group.feedback_rows for group in draw.groups] + [group.feedback_rows for group in pairs]
        shown_by = [g for generators_of_text in generators for g in generators_of_text]
        tokens = self._tokenizer(texts)
        with self._staging.batch() as staged:
            return TrainBatch(
                step=draw.step,
                mix=mix,
                images=self._staging.load(self._ring, [slot for slots_of_text in slots for slot in slots_of_text]),
                tokens=copy_to_device(tokens, self._device),
                index=index.to(self._device),
                texts=tuple(texts),
                image_ids=image_ids,
                generators=tuple(shown_by),
                draw_record=record,
                waited_s=waited_s,
                feedback_rows=np.column_stack([np.repeat(boards, counts, axis=0), shown_by]),
                leftover=self._counts(),
                staged=staged,
            )

    def _counts(self) -> dict[str, dict[str, int]] | None:
        """Return the counts of what waits to be drawn, None where nothing can."""
        waiting = self._other_sides if self._leftover is None else self._leftover
        return None if waiting is None else waiting.counts()


def _negative_caption(pair: DrawnGroup) -> str:
    assert pair.negative is not None, f"task {pair.task_id} was drawn as a pair but has no negative caption"
    return pair.negative
