"""The ring reader on a real ring, filled by hand."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from torchdata.nodes import Loader

from polygen_stream.base.errors import RankLost
from polygen_stream.base.seeding import key
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.ring import Kind, Member, Ring, RingSpec, RingTimeout
from polygen_stream.schedule.curriculum import Curriculum
from polygen_stream.schedule.ledger import Ledger
from polygen_stream.train.data import RingReader
from polygen_stream.train.staging import HostStaging
from polygen_stream.train.step_barrier import Readiness

GENERATORS = ("one", "two")


@pytest.fixture
def ring():
    ring = Ring.create(
        RingSpec(
            slots=256,
            image_shape=(4, 4, 3),
            groups=64,
            members=8,
            caption_bytes=64,
            generators=GENERATORS,
            seed=0,
            max_retries=0,
        )
    )
    ring.register("test", "test")
    yield ring
    ring.close()


def pixel(task: int, polarity: int, generator: int) -> int:
    return task * 4 + polarity * 2 + generator


def fill(ring: Ring, tasks: range, kind: Kind, broken: tuple[int, ...] = ()) -> None:
    """Complete groups of two positives (and two negatives); `broken` tasks lose generator two's images."""
    for task in tasks:
        polarities = (0, 1) if kind is Kind.PAIR else (0,)
        members = [Member(g, polarity, seed=task) for polarity in polarities for g in (0, 1)]
        negative = f"not {task}" if kind is Kind.PAIR else None
        ring.open_group(task, kind, f"caption {task}", negative, members, timeout_s=1)
        for generator in (0, 1):
            claims = ring.claim([generator], limit=8)
            if generator == 1 and task in broken:
                ring.fail(claims, "broken on purpose")
            else:
                colours = [pixel(c.task_id, int(c.polarity), c.generator) for c in claims]
                ring.commit(claims, np.stack([np.full((4, 4, 3), v, np.uint8) for v in colours]))


def reader(ring, *, share=0.0, steps=5, texts=4, timeout_s=1.0, stop=lambda: False, curriculum=None, **ranks):
    return RingReader(
        ring,
        curriculum or Curriculum("constant", 0.0, share, steps=steps, texts=texts),
        tokenizer=lambda texts: torch.tensor([[len(text)] for text in texts]),
        staging=HostStaging(),
        device=torch.device("cpu"),
        steps=steps,
        timeout_s=timeout_s,
        stop=stop,
        **ranks,
    )


def test_every_image_points_at_the_caption_it_was_rendered_from(ring):
    fill(ring, range(0, 6), Kind.PLAIN)
    fill(ring, range(6, 12), Kind.PAIR)
    batch = next(reader(ring, share=0.25, texts=8))
    drawn = batch.draw_record
    assert drawn.kinds == (Kind.PLAIN,) * 4 + (Kind.PAIR,) * 2
    assert batch.texts == tuple(
        [f"caption {task}" for task in drawn.task_ids] + [f"not {task}" for task in drawn.task_ids[4:]]
    )
    owners = batch.index.image_text.tolist()
    for image, text, generator in zip(batch.images, owners, batch.generators, strict=True):
        word, task = batch.texts[text].split()
        assert image.unique().tolist() == [pixel(int(task), int(word == "not"), generator)]
    assert batch.index.text_negative.tolist() == [False] * 6 + [True] * 2
    assert (batch.index.positives, batch.index.negatives) == (6, 2)
    assert (batch.index.positive_images, batch.index.negative_images) == (12, 4)
    said = dict(zip(batch.index.text_caption.tolist(), batch.texts, strict=True))
    assert len(said) == 8 and {key(text) >> 1: text for text in said.values()} == said  # the same on any other rank
    assert batch.tokens.shape == (8, 1) and batch.images.dtype == torch.uint8


def test_six_generators_draw_every_caption_of_an_ensemble_of_six():
    """More than the paper's four: plan, ledger, ring and batch for the recipes of SD 3.5 and FLUX besides."""
    recipes = ("sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium", "flux_schnell")
    overrides = {"generators.recipes": ",".join(recipes), "generators.positives": "6", "ring.image_size": "8"}
    overrides |= {"ring.slots": "256", "ring.min_fill": "4", "train.batch": "4", "generators.negatives": "6"}
    plan = build_process_plan(load_config(None, overrides))
    assert [process.generator for process in plan.with_role("renderer")] == list(recipes)
    ledger = Ledger(0, ("tree", "cup"), ("colour",), num_generators=len(recipes), positives=6)
    with closing(Ring.create(plan.ring)) as ring:
        ring.register("test", "test")
        for number in range(4):
            task = ledger.task(number)
            members = [Member(g, 0, seed) for g, seed in zip(task.generators, task.image_seeds, strict=True)]
            ring.open_group(number, Kind.PLAIN, f"caption {number}", None, members, timeout_s=1)
        for generator in range(len(recipes)):
            claims = ring.claim([generator], limit=8)
            ring.commit(claims, np.full((len(claims), 8, 8, 3), generator, np.uint8))
        batch = next(reader(ring))
        assert [sorted(batch.generators[start : start + 6]) for start in range(0, 24, 6)] == [list(range(6))] * 4
        assert batch.images.flatten(1).float().mean(1).tolist() == list(batch.generators)
        assert batch.index.image_text.bincount().tolist() == [6] * 4


def test_a_degraded_caption_comes_with_fewer_images(ring):
    fill(ring, range(4), Kind.PLAIN, broken=(2,))
    batch = next(reader(ring))
    counts = dict(zip(batch.texts, batch.index.image_text.bincount().tolist(), strict=True))
    assert counts == {"caption 0": 2, "caption 1": 2, "caption 2": 1, "caption 3": 2}


def test_leases_end_when_the_batch_is_handed_out(ring):
    fill(ring, range(4), Kind.PLAIN)
    batch = next(reader(ring))
    assert sum(kind["leased"] for kind in ring.stats().groups.values()) == 0
    before = batch.images.clone()
    fill(ring, range(4, 60), Kind.PLAIN)
    assert torch.equal(batch.images, before)  # a copy, not a view of slots that may be reused


def test_state_continues_at_the_next_step_through_torchdatas_loader(ring):
    fill(ring, range(8), Kind.PLAIN)
    loader = Loader(reader(ring, steps=3), restart_on_stop_iteration=False)
    seen = iter(loader)
    assert next(seen).step == 0
    state = loader.state_dict()
    other = Loader(reader(ring, steps=3), restart_on_stop_iteration=False)
    other.load_state_dict(state)
    assert [batch.step for batch in other] == [1, 2]


def test_ends_after_the_last_step(ring):
    fill(ring, range(8), Kind.PLAIN)
    assert [batch.step for batch in reader(ring, steps=3)] == [0, 1, 2]


def test_stop_during_a_wait_ends_without_counting_the_step(ring):
    curriculum = Curriculum("constant", 0.0, 0.3, steps=5, texts=4)
    stopping = threading.Event()
    waiting = reader(ring, timeout_s=60, stop=stopping.is_set, curriculum=curriculum)
    threading.Timer(0.2, stopping.set).start()
    begun = time.monotonic()
    with pytest.raises(StopIteration):
        next(waiting)
    assert time.monotonic() - begun < 30
    assert waiting.state_dict() == {"step": 0, "curriculum": {"carry": 0.0}}
    assert curriculum.state_dict() == {"carry": 0.0}


def test_starved_reader_gives_up_at_the_deadline(ring):
    with pytest.raises(RingTimeout):
        next(reader(ring, timeout_s=0.05))


def deterministic_ring(tasks: int) -> Ring:
    """Complete groups, every other one a pair; due(step) = 8 + 2 x step tasks, the newest 16 are the window."""
    ring = Ring.create(
        RingSpec(
            slots=256,
            image_shape=(4, 4, 3),
            groups=64,
            members=4,
            caption_bytes=64,
            generators=GENERATORS,
            seed=0,
            min_fill=8,
            mode="deterministic",
            window=16,
            inserts_per_step=2.0,
        )
    )
    ring.register("test", "test")
    for task in range(tasks):
        fill(ring, range(task, task + 1), Kind(task % 2))
    return ring


def test_a_resumed_reader_gets_the_batches_of_an_uninterrupted_one():
    """New ring, new reader, the state of a step in the middle; the mix is one that has to carry a remainder."""

    def curriculum() -> Curriculum:
        return Curriculum("constant", 0.0, 0.15, steps=9, texts=6)

    with closing(deterministic_ring(26)) as ring:
        loader = Loader(reader(ring, steps=9, curriculum=curriculum()), restart_on_stop_iteration=False)
        uninterrupted, states = [], []
        for batch in loader:
            uninterrupted.append((batch.draw_record, batch.texts, batch.images.tolist()))
            states.append(loader.state_dict())
    assert len({len(drawn.task_ids) for drawn, _, _ in uninterrupted}) > 1  # 0.9 pairs a step: not all are the same
    for done in (1, 4, 8):
        with closing(deterministic_ring(26)) as ring:
            resumed = Loader(reader(ring, steps=9, curriculum=curriculum()), restart_on_stop_iteration=False)
            resumed.load_state_dict(states[done - 1])
            rest = [(batch.draw_record, batch.texts, batch.images.tolist()) for batch in resumed]
        assert rest == uninterrupted[done:]


def test_ranks_share_the_batch_and_log_it_once(ring):
    fill(ring, range(0, 9), Kind.PLAIN)
    fill(ring, range(9, 18), Kind.PAIR)
    ranks = [reader(ring, share=0.25, texts=12, steps=3, local_rank=rank, local_world_size=2) for rank in range(2)]
    for step in range(3):
        batches = [next(rank) for rank in ranks]
        whole = batches[0].draw_record
        assert [batch.step for batch in batches] == [step, step] and whole.step == step
        assert batches[1].draw_record.task_ids == whole.task_ids[1::2]
        captions = [set(batch.texts[: batch.index.positives]) for batch in batches]
        assert not captions[0] & captions[1]
        ids = [batch.image_ids.tolist() for batch in batches]
        assert len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
        assert captions[0] | captions[1] == {f"caption {task}" for task in whole.task_ids}
        assert abs(batches[0].index.negatives - batches[1].index.negatives) <= 1
    assert sum(kind["leased"] for kind in ring.stats().groups.values()) == 0
    assert ring.stats().draws == 3


def test_a_batch_that_another_rank_cannot_have_is_not_delivered(ring):
    """The leader has broadcast it; the step barrier says no. Neither its state nor the curriculum counts it."""
    fill(ring, range(4), Kind.PLAIN)
    fill(ring, range(4, 8), Kind.PAIR)
    votes = []

    def barrier_with_verdict(verdict: Readiness, rank: int):
        return lambda step, own: (votes.append((step, own)), (verdict, rank))[1]

    for verdict, error in ((Readiness.STOPPING, StopIteration), (Readiness.FAILED, RankLost)):
        leader = reader(
            ring, share=0.3, texts=5, local_rank=0, local_world_size=2, step_barrier=barrier_with_verdict(verdict, 1)
        )
        with pytest.raises(error, match="step 0: rank 1 has no batch" if error is RankLost else None):
            next(leader)
        assert leader.state_dict() == {"step": 0, "curriculum": {"carry": 0.0}}
        ring.release(ring.receive(0, 0, 2, 0.0)), ring.release(ring.receive(0, 1, 2, 0.0))
    assert votes == [(0, Readiness.READY)] * 2


def test_a_rank_without_a_batch_votes_so_and_raises_the_reason_itself(ring):
    votes = []

    def step_barrier(step: int, own: Readiness) -> tuple[Readiness, int]:
        votes.append(own)
        return own, 0

    with pytest.raises(RingTimeout):
        next(reader(ring, timeout_s=0.05, local_rank=0, local_world_size=2, step_barrier=step_barrier))
    with pytest.raises(StopIteration):
        next(reader(ring, stop=lambda: True, local_rank=1, local_world_size=2, step_barrier=step_barrier))
    assert votes == [Readiness.FAILED, Readiness.STOPPING]
