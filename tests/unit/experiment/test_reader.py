"""Batches from a pool whose images say what they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from polygen_stream.config import RunConfig, load_config
from polygen_stream.experiment.pool import PoolCaption
from polygen_stream.experiment.reader import ArmData, passes
from polygen_stream.experiment.spec import Arm, PoolSpec
from polygen_stream.experiment.stream import Stream
from polygen_stream.train.step import StepResult

GENERATORS = ("sd15", "sd2", "sana", "turbo")
CAPTIONS = 24


class MarkedPool:
    """Every image is (caption, generator, 100 * negative + copy) in its three channels."""

    spec = PoolSpec(seed=0, captions=CAPTIONS, generators=GENERATORS, layers=({"captions": CAPTIONS, "copies": 4},))
    captions = tuple(PoolCaption(10 + i, "ball", "colour", f"text {i}", f"negative {i}") for i in range(CAPTIONS))

    def images(self, generator: str, negatives: bool, copy: int) -> np.ndarray:
        pixels = [(row, GENERATORS.index(generator), 100 * negatives + copy) for row in range(CAPTIONS)]
        return np.broadcast_to(np.array(pixels, np.uint8)[:, None, None], (CAPTIONS, 8, 8, 3)).copy()


def tokenizer(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[text.startswith("negative"), int(text.split()[1])] for text in texts])


def through_ring(data: ArmData, config: RunConfig, tokenizer):
    return Stream(data, config, tokenizer).batches()


def arm(positives: int, *generators: str, **changes: int) -> Arm:
    return Arm(name="arm", captions=CAPTIONS, positives=positives, ensembles=(generators,), **changes)


def config(texts: int, steps: int, end: float = 0.0, seed: int = 0, catch_up: float = 1.0) -> RunConfig:
    whole = load_config("micro")
    train = whole.train.model_copy(update={"batch": texts, "steps": steps})
    curriculum = whole.curriculum.model_copy(update={"end": end, "schedule": "constant"})
    ring = whole.ring.model_copy(update={"catch_up": catch_up})
    return whole.model_copy(update={"train": train, "curriculum": curriculum, "ring": ring, "seed": seed})


def marks(batch) -> list[tuple[int, int, int]]:
    return [tuple(image[0, 0].tolist()) for image in batch.images]


@pytest.mark.parametrize(
    ("positives", "generators", "expected"),
    [
        (4, GENERATORS, {(g, 0): 1 for g in range(4)}),
        (4, GENERATORS[:2], {(g, copy): 1 for g in range(2) for copy in range(2)}),
        (4, GENERATORS[:1], {(0, copy): 1 for copy in range(4)}),
    ],
)
def test_every_caption_has_its_images_spread_over_the_generators(positives, generators, expected):
    data = ArmData(MarkedPool(), arm(positives, *generators), 0, negatives=False)
    images = data.images(np.arange(CAPTIONS), np.zeros(CAPTIONS, np.int64))
    for row in range(CAPTIONS):
        shown = Counter((int(p[0, 0, 1]), int(p[0, 0, 2])) for p in images[row])
        assert shown == expected
        assert set(images[row, :, 0, 0, 0].tolist()) == {row}


def test_one_image_of_several_generators_is_by_each_of_them_about_equally_often():
    counts = Counter[int]()
    for seed in range(20):
        counts += Counter(ArmData(MarkedPool(), arm(1, *GENERATORS), seed, negatives=False).generators[:, 0].tolist())
    assert set(counts) == {0, 1, 2, 3}
    assert all(abs(count - 120) < 40 for count in counts.values())  # of 480


def test_a_pass_has_every_caption_once_and_the_next_one_in_another_order():
    data = ArmData(MarkedPool(), arm(1, "sd15"), 0, negatives=False)
    batches = list(passes(data, config(8, 6), tokenizer))
    orders = [[m[0] for batch in batches[at : at + 3] for m in marks(batch)] for at in (0, 3)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(CAPTIONS))
    assert orders[0] != orders[1]


def test_no_caption_comes_twice_in_a_batch_and_none_is_lost_at_the_seam_of_passes():
    data = ArmData(MarkedPool(), arm(1, "sd15"), 0, negatives=False)
    batches = [[m[0] for m in marks(batch)] for batch in passes(data, config(10, 12), tokenizer)]  # 5 passes of 24
    assert all(len(set(rows)) == 10 for rows in batches)
    assert Counter(row for rows in batches for row in rows) == dict.fromkeys(range(CAPTIONS), 5)


def test_negatives_are_the_twins_of_captions_in_the_batch():
    data = ArmData(MarkedPool(), arm(2, *GENERATORS), 0, negatives=True)
    for batch in passes(data, config(12, 4, end=0.25), tokenizer):
        negative = batch.index.text_negative
        assert negative.sum() == 3 and len(batch.texts) == 12
        positives = {text.split()[1]: i for i, text in enumerate(batch.texts) if text.startswith("text")}
        for i in torch.nonzero(negative).flatten().tolist():
            twin = positives[batch.texts[i].split()[1]]
            own, twins = (
                [marks(batch)[j] for j in torch.nonzero(batch.index.image_text == k).flatten().tolist()]
                for k in (i, twin)
            )
            assert [(row, g, mark - 100) for row, g, mark in own] == twins
        assert batch.tokens[:, 0].bool().tolist() == negative.tolist()
        assert [f"{'negative' if n else 'text'} {i}" for n, i in batch.tokens.tolist()] == list(batch.texts)
        assert len(set(batch.image_ids.tolist())) == len(batch.image_ids) == len(batch.images) == len(batch.generators)


def test_a_batch_takes_some_of_the_images_of_a_caption_and_later_the_others():
    data = ArmData(MarkedPool(), arm(1, *GENERATORS, views=4), 0, negatives=False)
    one = config(8, 12)  # four passes of 24 captions
    one = one.model_copy(update={"train": one.train.model_copy(update={"images_per_text": 1})})
    seen = [mark for batch in passes(data, one, tokenizer) for mark in marks(batch)]
    assert Counter(seen) == {(row, g, 0): 1 for row in range(CAPTIONS) for g in range(4)}
    first = Counter(g for _, g, _ in seen[:CAPTIONS])
    assert len(first) == 4, "captions take different ones first"


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_with_co_occurrence_a_pass_shows_both_texts_of_every_caption(share):
    data = ArmData(MarkedPool(), arm(2, *GENERATORS), 0, negatives=True)
    steps = 2 * CAPTIONS // 8  # of a pass
    one = config(8, 3 * steps, end=share)
    one = one.model_copy(update={"curriculum": one.curriculum.model_copy(update={"kind": "co_occurrence"})})
    counts, met = Counter(), 0
    for batch in passes(data, one, tokenizer):
        assert len(set(batch.texts)) == 8
        counts.update(batch.texts)
        captions = Counter(text.split()[1] for text in batch.texts)
        pairs = [row for row, count in captions.items() if count == 2]
        assert batch.index.text_negative.sum() == batch.mix.pair == len(pairs)
        assert len(pairs) in (int(8 * share), 0)
        met += len(pairs)
        for image, text in zip(marks(batch), batch.index.image_text.tolist(), strict=True):
            row, _, mark = image
            assert batch.texts[text] == f"{'negative' if mark >= 100 else 'text'} {row}"
    assert max(counts.values()) <= 4  # three passes, and the start of a fourth where the others were incomplete
    negatives = sum(count for text, count in counts.items() if text.startswith("negative"))
    assert 0.4 < negatives / counts.total() < 0.6
    if share == 0.5:
        assert met == counts.total() // 2


def test_seeds_give_other_orders_and_one_seed_the_same():
    def texts(seed: int) -> list[tuple[str, ...]]:
        data = ArmData(MarkedPool(), arm(1, *GENERATORS), seed, negatives=False)
        return [batch.texts for batch in passes(data, config(8, 3, seed=seed), tokenizer)]

    assert texts(0) == texts(0) != texts(1)


@pytest.mark.parametrize("start", [0, 6])
def test_a_ring_gets_a_caption_for_so_many_draws(start):
    data = ArmData(MarkedPool(), arm(2, *GENERATORS[:2], buffer=12, reuse=3, start=start), 0, negatives=False)
    batches = list(through_ring(data, config(4, 30), tokenizer))
    tasks = [task for batch in batches for task in batch.draw_record.task_ids]
    # one for every three of the 120 draws, on top of those before the first, within the limiter's window of two batches
    assert len(set(tasks)) == pytest.approx((start or 12) + 120 / 3, abs=2 * (4 + 3) / 3)
    steps = {
        task: [step for step, batch in enumerate(batches) if task in batch.draw_record.task_ids] for task in set(tasks)
    }
    assert all(seen[-1] - seen[0] < 15 for seen in steps.values())  # a ring of 12 is through after 9 steps
    for batch in batches:
        assert sorted(Counter(row for row, *_ in marks(batch)).values()) == [2] * 4
        assert [f"text {row}" for row, *_ in marks(batch)[::2]] == list(batch.texts)


@pytest.mark.parametrize("catch_up", [1.0, 8.0])
def test_a_ring_with_room_for_all_captions_gets_each_once_and_draws_late_ones_more_if_it_is_to(catch_up):
    one = arm(2, *GENERATORS[:2], buffer=24, reuse=5, start=4)
    data = ArmData(MarkedPool(), one, 0, negatives=False)
    batches = list(through_ring(data, config(4, 60, catch_up=catch_up), tokenizer))
    draws = Counter(task for batch in batches for task in batch.draw_record.task_ids)
    assert set(draws) == set(range(len(data.captions))) and sum(draws.values()) == 240
    first, last = (sum(draws[task] for task in tasks) / 8 for tasks in (range(8), range(16, 24)))
    assert last > 0.9 * first if catch_up > 1 else last < 0.6 * first


def test_a_ring_gives_captions_with_their_hard_negatives_in_the_mix_of_the_curriculum():
    one = arm(2, *GENERATORS[:2], buffer=24, reuse=5, start=8)
    batches = list(through_ring(ArmData(MarkedPool(), one, 0, negatives=True), config(8, 12, end=0.25), tokenizer))
    for batch in batches:
        assert batch.mix.pair == 2 and len(batch.texts) == 8
        rows = [int(text.split()[1]) for text in batch.texts]
        sides = [text.startswith("negative") for text in batch.texts]
        assert sides == [False] * 6 + [True] * 2 and set(rows[6:]) <= set(rows[:6]) and len(set(rows[:6])) == 6
        assert [m[0] for m in marks(batch)] == [row for row in rows for _ in range(2)]
        assert [m[2] >= 100 for m in marks(batch)] == [side for side in sides for _ in range(2)]


@pytest.mark.parametrize("policy", ["uniform", "hardest"])
def test_a_stream_chooses_the_captions_that_the_policy_wants_of_its_supply(policy):
    """Half of the supply is about colour, half about size; size is measured as hard."""
    one = Arm(name="arm", captions=12, positives=2, ensembles=(GENERATORS[:2],), buffer=12, reuse=8, start=4, supply=24)
    pool = MarkedPool()
    pool.captions = tuple(
        PoolCaption(i, "ball", ("colour", "size")[i % 2], f"text {i}", f"negative {i}") for i in range(CAPTIONS)
    )
    synthesis = {"policy": policy, "uniform_share": 0.0, "sharpness": 8.0}
    whole = config(4, 30)
    whole = whole.model_copy(update={"synthesis": whole.synthesis.model_copy(update=synthesis)})
    stream = Stream(ArmData(pool, one, 0, negatives=False), whole, tokenizer)
    for batch in stream.batches():
        axes = batch.feedback_rows[:, 0]
        assert [("colour", "size")[row] for row in axes] == [pool.captions[row].axis for row, *_ in marks(batch)]
        measured = torch.stack([torch.tensor(axes) * 5.0, torch.ones(8), torch.full((8,), torch.nan)])
        stream.report(batch, StepResult(0.0, {}, 0.0, 0.0, 1.0, 8, 4, 0, measured))
    assert len(stream.inserted) == len(set(stream.inserted)) == 12
    later = [pool.captions[row].axis for row in stream.inserted[8:]]
    assert later.count("size") == 4 if policy == "hardest" else later.count("size") < 4


def test_a_ring_gives_the_pictures_of_the_passes():
    plain = arm(2, *GENERATORS[:2])
    ring = replace_arm(plain, buffer=12, reuse=100)
    shown = []
    for one, batches in ((plain, passes), (ring, through_ring)):
        data = ArmData(MarkedPool(), one, 0, negatives=False)
        shown.append({mark for batch in batches(data, config(4, 12), tokenizer) for mark in marks(batch)})
    assert shown[1] < shown[0]
    assert len(shown[1]) == 2 * 13  # of the 12 captions of the ring, and of one that the limiter admits ahead


def replace_arm(one: Arm, **changes: int) -> Arm:
    return one.model_copy(update=changes)
