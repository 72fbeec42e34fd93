"""Producing ahead of the draw mix: a step change of p, renderers ten times slower than the trainer, virtual time."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from small_rings import open_plain, render

from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.ring import DrawRequest, Kind, Member, Ring, RingSpec, RingTimeout
from polygen_stream.schedule.curriculum import Curriculum, ErrorDiffusion

STEPS, TEXTS, BACKLOG, IMAGES, SLOWER = 80, 24, 24, 2, 10


def waits(ahead_of_draws: bool) -> list[int]:
    """The step that could not be drawn, for every tick of virtual time in which the trainer waited.

    In a tick the trainer does a step if the ring has its batch, and the renderers do a tenth of a batch's images.
    """
    curriculum = Curriculum("step", 0.0, 0.25, steps=STEPS, texts=TEXTS)
    spec = RingSpec(
        slots=4096,
        image_shape=(4, 4, 3),
        groups=1024,
        members=2 * IMAGES,
        caption_bytes=32,
        generators=("one",),
        seed=0,
        min_fill=TEXTS,
    )
    with closing(Ring.create(spec)) as ring:
        ring.register("test", "test")
        pairs, lead = ErrorDiffusion(), LeadTime()
        task, tick, step, waited, images = 0, 0, 0, [], 0.0
        mix = curriculum.draw(0)
        while step < STEPS:
            tick += 1
            measured = lead.steps(float(tick), ring.stats())
            while sum(kind["open"] for kind in ring.stats().groups.values()) < BACKLOG:
                share = curriculum.production_share(step, measured if ahead_of_draws else 0.0)
                kind = Kind(pairs.take(share, 1))
                members = [Member(0, polarity, task) for polarity in range(1 + kind) for _ in range(IMAGES)]
                negative = f"not {task}" if kind else None
                ring.open_group(task, kind, f"caption {task}", negative, members, timeout_s=0)
                task += 1
            images += TEXTS * IMAGES / SLOWER
            if claims := ring.claim([0], limit=int(images)):
                ring.commit(claims, np.zeros((len(claims), 4, 4, 3), np.uint8))
                images -= len(claims)
            if ring.stats().groups_completed < TEXTS:
                continue  # not begun
            try:
                ring.release(ring.draw(DrawRequest(step, mix.plain, mix.pair), timeout_s=0))
            except RingTimeout:
                waited.append(step)
                continue
            step += 1
            ring.set_step(step)
            mix = curriculum.draw(step)
        return waited


def test_production_ahead_of_the_draw_mix_takes_all_of_the_waiting_away_at_a_jump():
    control, ahead = waits(ahead_of_draws=False), waits(ahead_of_draws=True)
    assert set(control) == {STEPS // 2}  # all of it at the jump
    assert len(control) > 0.15 * (STEPS + len(control))
    assert ahead == []


def test_a_trainer_that_goes_back_to_a_checkpoint_begins_the_measurement_anew(new_ring):
    ring, lead = new_ring(), LeadTime()
    render(ring)
    for second, (task, step) in enumerate([(0, 0), (1, 5), (2, 10)]):
        open_plain(ring, task)
        render(ring)
        ring.set_step(step)
        measured = lead.steps(float(second), ring.stats())
    assert measured > 0
    ring.set_step(4)
    assert lead.steps(3.0, ring.stats()) == 0.0
    open_plain(ring, 3)
    render(ring)
    ring.set_step(6)
    assert lead.steps(4.0, ring.stats()) == 8.0  # 4 groups, 2 steps and 1 group since
