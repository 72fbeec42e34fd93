"""The reader with a leftover queue, on a real ring filled by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest
import torch
from torchdata.nodes import Loader

from polygen_stream.ring import DrawRecord, Kind, Member, Ring, RingSpec
from polygen_stream.schedule.curriculum import Curriculum
from polygen_stream.schedule.leftover import Lane, LeftoverQueue, Reason
from polygen_stream.train.data import RingReader
from polygen_stream.train.staging import HostStaging

ROWS, TEXTS = 64, 8


def ring_with(plain: range, pair: range = range(0)) -> Ring:
    spec = RingSpec(
        slots=256,
        image_shape=(4, 4, 3),
        groups=ROWS,
        members=2,
        caption_bytes=64,
        generators=("one",),
        seed=0,
    )
    ring = Ring.create(spec)
    ring.register("test", "test")
    fill(ring, plain, Kind.PLAIN)
    fill(ring, pair, Kind.PAIR)
    return ring


def fill(ring: Ring, tasks: range, kind: Kind) -> None:
    for task in tasks:
        members = [Member(0, polarity, seed=task) for polarity in range(1 + kind)]
        ring.open_group(task, kind, f"caption {task}", f"not {task}" if kind else None, members, timeout_s=1)
        ring.commit(ring.claim([0], limit=2), np.zeros((1 + kind, 4, 4, 3), np.uint8))


def reader(ring: Ring, curriculum: Curriculum, queue: LeftoverQueue | None, **ranks: int) -> RingReader:
    return RingReader(
        ring,
        curriculum,
        tokenizer=lambda texts: torch.tensor([[len(text)] for text in texts]),
        staging=HostStaging(),
        device=torch.device("cpu"),
        steps=curriculum.steps,
        timeout_s=1.0,
        stop=lambda: False,
        leftover=queue,
        **ranks,
    )


def constant(share: float, steps: int = 6) -> Curriculum:
    return Curriculum("constant", 0.0, share, steps=steps, texts=TEXTS)


def waiting_tasks(ring: Ring, queue: LeftoverQueue, lane: Lane) -> list[int]:
    task = {(group.row, group.generation): group.task_id for group in ring.groups_snapshot(ROWS)}
    return [task[group] for group in queue.waiting(lane)]


def assert_conserving(queue: LeftoverQueue) -> None:
    for lane, counts in queue.counts().items():
        entered = counts.pop("entered")
        assert entered == sum(counts.values()), (lane, counts)


def test_what_negatives_displaced_heads_the_next_batch_first_in_first_out():
    with closing(ring_with(range(40), range(40, 60))) as ring:
        queue = LeftoverQueue(ring, ROWS, max_age=20)
        before, seen = [], set()
        for batch in reader(ring, constant(0.25), queue):  # 4 plain and 2 pairs
            drawn = batch.draw_record.task_ids
            assert list(drawn[: len(before)]) == before
            assert (batch.index.positives, batch.index.negatives) == (6, 2)
            before = waiting_tasks(ring, queue, Lane.DISPLACED)
            seen |= set(drawn)
            assert before == [task for task in range(60) if task not in seen][:2]  # two negatives, so the oldest two
            assert sorted(ring.pinned()) == sorted(queue.waiting(Lane.DISPLACED))
            assert_conserving(queue)
        assert queue.trained[Lane.DISPLACED] == 5 * 2


def test_a_share_of_zero_leaves_nothing_behind_and_changes_no_draw():
    drawn: list[list[DrawRecord]] = []
    for age in (0, 20):
        with closing(ring_with(range(40))) as ring:
            queue = LeftoverQueue(ring, ROWS, max_age=age) if age else None
            drawn.append([batch.draw_record for batch in reader(ring, constant(0.0), queue)])
            assert ring.pinned() == []
    assert drawn[0] == drawn[1]
    assert queue is not None and sum(queue.entered.values()) == 0


def test_negatives_rendered_too_early_wait_until_the_curriculum_admits_them():
    curriculum = Curriculum("step", 0.0, 0.25, steps=4, texts=TEXTS)  # two steps of 8 plain, two of 4 and 2 pairs
    with closing(ring_with(range(3), range(3, 30))) as ring:
        queue = LeftoverQueue(ring, ROWS, max_age=20)
        batches = reader(ring, curriculum, queue)
        early = [next(batches).draw_record.task_ids for _ in range(2)]
        waiting = waiting_tasks(ring, queue, Lane.UNADMITTED)
        assert waiting == [task for drawn in early for task in drawn if task >= 3]
        late = next(batches).draw_record
        assert late.kinds == (Kind.PLAIN,) * 4 + (Kind.PAIR,) * 2
        assert list(late.task_ids[4:]) == waiting[:2]
        assert queue.trained[Lane.UNADMITTED] == 2
        assert_conserving(queue)


@pytest.mark.parametrize(
    ("curriculum", "lane"),
    [
        (lambda: constant(0.25, 6), Lane.DISPLACED),
        (lambda: Curriculum("step", 0.0, 0.25, steps=4, texts=TEXTS), Lane.UNADMITTED),
    ],
)
def test_two_ranks_draw_and_leave_behind_what_one_process_does(curriculum: Callable[[], Curriculum], lane: Lane):
    with closing(ring_with(range(3), range(3, 50))) as ring:
        alone = LeftoverQueue(ring, ROWS, max_age=20)
        expected = [batch.draw_record for batch in reader(ring, curriculum(), alone)]
    with closing(ring_with(range(3), range(3, 50))) as ring:
        queue = LeftoverQueue(ring, ROWS, max_age=20)
        queues = (queue, None)
        ranks = [reader(ring, curriculum(), queues[rank], local_rank=rank, local_world_size=2) for rank in range(2)]
        for drawn in expected:
            batches = [next(rank) for rank in ranks]
            assert batches[0].draw_record == drawn
            assert sum(len(batch.texts) for batch in batches) == TEXTS
        assert sorted(ring.pinned()) == sorted(queue.waiting(Lane.DISPLACED) + queue.waiting(Lane.UNADMITTED))
    assert queue.counts() == alone.counts()
    assert queue.trained[lane] > 0
    assert_conserving(queue)


def test_a_full_queue_drops_with_a_reason_and_an_old_entry_too():
    with closing(ring_with(range(4), range(4, 64))) as ring:
        queue = LeftoverQueue(ring, ROWS, max_age=6)  # four a step, and sixteen may wait
        for _ in reader(ring, constant(0.0, steps=9), queue):  # pairs stand in for plain groups; none is admitted
            assert len(queue) <= ROWS // 4
            assert_conserving(queue)
        dropped = queue.dropped[Lane.UNADMITTED]
        assert dropped[Reason.FULL] > 0 and dropped[Reason.OLD] > 0
        assert len(ring.pinned()) == len(queue)


def test_a_resumed_reader_goes_on_with_the_queue_it_had():
    with closing(ring_with(range(40), range(40, 60))) as ring:
        queue = LeftoverQueue(ring, ROWS, max_age=20)
        loader = Loader(reader(ring, constant(0.25), queue), restart_on_stop_iteration=False)
        seen = iter(loader)
        for _ in range(3):
            next(seen)
        state, waiting = loader.state_dict(), queue.waiting(Lane.DISPLACED)
        ring.unpin(*waiting[0])  # the new ring came back without this pin, and with one that no entry has
        stranger = ring.unseen(9)[-1]
        ring.pin(*stranger)
        other = LeftoverQueue(ring, ROWS, max_age=20)
        resumed = iter(loader_of(ring, other, state))
        batch = next(resumed)
        assert batch.step == 3
        assert batch.draw_record.task_ids[0] == tasks_by_group(ring)[waiting[1]]
        assert stranger not in ring.pinned()
        assert other.dropped[Lane.DISPLACED][Reason.GONE] == 1
        assert_conserving(other)


def loader_of(ring: Ring, queue: LeftoverQueue, state: dict) -> Loader:
    loader = Loader(reader(ring, constant(0.25), queue), restart_on_stop_iteration=False)
    loader.load_state_dict(state)
    return loader


def tasks_by_group(ring: Ring) -> dict[tuple[int, int], int]:
    return {(group.row, group.generation): group.task_id for group in ring.groups_snapshot(ROWS)}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5])
def test_the_realised_share_is_within_one_text_of_p_with_a_queue(share):
    with closing(ring_with(range(40), range(40, 60))) as ring:
        queue = LeftoverQueue(ring, ROWS, max_age=20)
        for batch in reader(ring, constant(share), queue):
            assert abs(batch.index.negatives / len(batch.texts) - share) <= 1 / TEXTS
