"""The reader under a curriculum of co-occurrence: each draw of a caption shows both of its texts, together or apart."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import numpy as np
import pytest
import torch
from torchdata.nodes import Loader

from polygen_stream.ring import Kind, Member, Ring, RingSpec
from polygen_stream.ring.pins import most_pinned
from polygen_stream.schedule.curriculum import Curriculum
from polygen_stream.schedule.other_sides import OtherSides
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.data import RingReader
from polygen_stream.train.staging import HostStaging

TEXTS, CAPTIONS, SEED = 8, 128, 3


def filled(**changes) -> Ring:
    """A ring of pairs whose images say their task and polarity."""
    values = {"slots": 256, "groups": 128, "members": 2, "image_shape": (4, 4, 3), "caption_bytes": 64, "seed": SEED}
    ring = Ring.create(RingSpec(generators=("one",), **(values | changes)))
    ring.register("test", "test")
    for task in range(CAPTIONS):
        members = [Member(0, polarity, seed=task) for polarity in range(2)]
        ring.open_group(task, Kind.PAIR, f"caption {task}", f"negative {task}", members, timeout_s=1)
        claims = ring.claim([0], limit=2)
        pixels = [np.full((4, 4, 3), (task, claim.polarity, 0), np.uint8) for claim in claims]
        ring.commit(claims, np.stack(pixels))
    return ring


def curriculum(share: float, steps: int) -> Curriculum:
    return Curriculum("constant", 0.0, share, steps=steps, texts=TEXTS, kind="co_occurrence")


def reader(ring: Ring, share: float, steps: int, **parts) -> RingReader:
    return RingReader(
        ring,
        curriculum(share, steps),
        tokenizer=lambda texts: torch.tensor([[len(text)] for text in texts]),
        staging=HostStaging(),
        device=torch.device("cpu"),
        steps=steps,
        timeout_s=1.0,
        stop=lambda: False,
        **parts,
    )


def other_sides(ring: Ring) -> OtherSides:
    return OtherSides(ring, SEED, TEXTS, most_pinned(ring.spec))


def shown(batch: TrainBatch) -> list[tuple[int, int]]:
    """(task, polarity) of each text."""
    return [(int(text.split()[1]), int(text.startswith("negative"))) for text in batch.texts]


@pytest.mark.parametrize(("share", "pairs"), [(0.0, 0), (0.13, 1), (0.25, 2), (0.5, 4)])
def test_a_batch_has_its_pairs_and_of_other_captions_one_text_with_its_images(share, pairs):
    with closing(filled()) as ring:
        queue = other_sides(ring)
        for batch in reader(ring, share, 40, other_sides=queue):
            texts = shown(batch)
            assert len(set(texts)) == TEXTS
            pixels = [tuple(image[0, 0, :2].tolist()) for image in batch.images]
            assert pixels == [texts[text] for text in batch.index.image_text.tolist()]
            met = [task for task, count in Counter(task for task, _ in texts).items() if count == 2]
            assert len(met) == batch.mix.pair == batch.index.text_negative.sum()
            assert len(met) in (pairs, 0)
            # T- that met its T+ is in the negatives' half, T- alone in the positives'
            assert [task for task, _ in texts[TEXTS - len(met) :]] == [task for task, _ in texts if task in met][
                : len(met)
            ]
        assert ring.check() == []


def test_each_caption_shows_both_texts_equally_often_and_what_is_missing_waits():
    """The ring holds 128 captions; in 200 steps of 8 texts every caption is drawn 6 times or more."""
    with closing(filled()) as ring:
        queue, counts, alone = other_sides(ring), Counter(), 0
        for batch in reader(ring, 0.2, 200, other_sides=queue):
            counts.update(shown(batch))
            alone += batch.mix.pair == 0
        waiting = Counter((int(ring_task(ring, row)), polarity) for row, _, polarity in queue.state_dict()["waiting"])
        assert waiting, "some wait at any time"
        for task in range(CAPTIONS):
            both = [counts[task, side] + waiting[task, side] for side in range(2)]
            assert both[0] == both[1] >= 6
        [lane] = queue.counts().values()
        assert lane["entered"] == lane["trained"] + lane["waiting"] and lane["trained"] == TEXTS * alone
        assert 0.5 < counts[0, 0] / counts[0, 1] < 2
        assert len(ring.pinned()) <= most_pinned(ring.spec)


def ring_task(ring: Ring, row: int) -> int:
    return next(group.task_id for group in ring.groups_snapshot(CAPTIONS) if group.row == row)


def test_hard_negatives_are_half_of_all_texts_from_the_first_steps_on():
    with closing(filled()) as ring:
        texts = [text for batch in reader(ring, 0.0, 60, other_sides=other_sides(ring)) for text in shown(batch)]
        assert 0.4 < np.mean([side for _, side in texts[: 10 * TEXTS]]) < 0.6
        assert 0.45 < np.mean([side for _, side in texts]) < 0.55


def test_a_text_comes_in_a_batch_well_after_that_of_its_other_side():
    with closing(filled()) as ring:
        last, gaps = {}, []
        for batch in reader(ring, 0.0, 60, other_sides=other_sides(ring)):
            for task, side in shown(batch):
                if (task, 1 - side) in last:
                    gaps.append(batch.step - last.pop((task, 1 - side)))
                else:
                    last[task, side] = batch.step
        assert min(gaps) >= 1 and np.median(gaps) > 2


def test_a_resumed_reader_goes_on_with_the_texts_that_waited():
    with closing(filled()) as ring, closing(filled()) as other:
        whole = [shown(batch) for batch in reader(ring, 0.2, 60, other_sides=other_sides(ring))]
        first = Loader(reader(other, 0.2, 60, other_sides=other_sides(other)))
        batches = iter(first)
        before = [shown(next(batches)) for _ in range(30)]
        second = Loader(reader(other, 0.2, 60, other_sides=other_sides(other)))
        second.load_state_dict(first.state_dict())
        assert before + [shown(batch) for batch in second] == whole


def test_texts_of_groups_that_a_new_ring_lacks_are_counted_as_gone():
    with closing(filled()) as ring, closing(filled()) as other:
        queue = other_sides(ring)
        list(reader(ring, 0.0, 3, other_sides=queue))
        waiting = len(queue)
        assert waiting
        again = other_sides(other)
        again.load_state_dict(queue.state_dict())
        again.settle(other.pinned())
        assert len(again) == 0 and again.counts()["other_side"]["dropped_gone"] == waiting


def test_two_ranks_draw_what_one_process_does():
    with closing(filled()) as ring, closing(filled()) as shared:
        whole = [batch.draw_record for batch in reader(ring, 0.2, 30, other_sides=other_sides(ring))]
        queue = other_sides(shared)
        leader = iter(reader(shared, 0.2, 30, other_sides=queue, local_rank=0, local_world_size=2))
        second = iter(reader(shared, 0.2, 30, local_rank=1, local_world_size=2))
        for record in whole:
            batches = next(leader), next(second)
            assert batches[0].draw_record == record
            texts = sorted(text for batch in batches for text in batch.texts)
            kinds = Counter(record.kinds)
            assert len(texts) == TEXTS and kinds[Kind.PLAIN] + kinds[Kind.NEGATIVE] + 2 * kinds[Kind.PAIR] == TEXTS


def test_deterministic_draws_toss_a_coin_of_step_and_task():
    spec = {"mode": "deterministic", "window": CAPTIONS}
    with closing(filled(**spec)) as ring, closing(filled(**spec)) as other:
        whole = [shown(batch) for batch in reader(ring, 0.25, 40)]
        assert whole == [shown(batch) for batch in reader(other, 0.25, 40)]
        alone = [side for texts in whole for task, side in texts if (task, 1 - side) not in texts]
        assert 0.4 < np.mean(alone) < 0.6


def test_a_ring_too_small_for_what_waits_is_refused():
    with closing(filled()) as ring, pytest.raises(ValueError, match="15 groups may wait, fewer than two batches of 8"):
        OtherSides(ring, SEED, TEXTS, 15)
