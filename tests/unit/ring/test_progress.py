"""Rules that are accepted together never stop both sides: random rings, producers and a trainer that take turns."""

from __future__ import annotations

import random

import pytest
from small_rings import open_pair, open_plain, render

from polygen_stream.base.errors import UserError
from polygen_stream.ring import DrawRequest, Ring, RingTimeout
from polygen_stream.ring.limiter import RateLimiter

STEPS = 40
TURNS = 60  # of the producers while one draw waits; each opens what it may and renders all of it


def random_rules(chance: random.Random) -> dict[str, float]:
    rules = {
        "slots": chance.choice([24, 32, 64]),
        "groups": chance.choice([8, 16, 32]),
        "min_fill": chance.choice([1, 2, 4]),
        "max_times_sampled": chance.choice([0, 1, 2, 5]),
        "max_age": chance.choice([0, 1, 3, 10]),
        "max_backlog": chance.choice([0, 4, 8]),
        "max_open": chance.choice([2, 16]),
    }
    if chance.random() < 0.7:
        rules |= {"samples_per_insert": chance.choice([0.5, 1, 2, 4]), "error_buffer": chance.choice([2, 4, 8])}
    return rules


class Producers:
    """Open plain and pair groups in a random order and render them. `pairs`: the share of pairs."""

    def __init__(self, ring: Ring, chance: random.Random, pairs: float) -> None:
        self.ring, self.chance, self.pairs = ring, chance, pairs
        self.task = 0

    def work(self, most: int) -> None:
        for _ in range(most):
            try:
                (open_pair if self.chance.random() < self.pairs else open_plain)(self.ring, self.task)
            except RingTimeout:
                break
            self.task += 1
        render(self.ring)


@pytest.mark.parametrize("seed", range(24))
def test_a_ring_that_was_accepted_makes_progress(new_ring, seed):
    chance = random.Random(seed)
    while True:  # rules that are refused are not the question here
        plain, pair = chance.randint(0, 2), chance.randint(0, 1)
        try:
            ring = new_ring(**random_rules(chance))
            RateLimiter.of(ring.limits).check_batch(plain + pair)
        except UserError:
            continue
        if plain + pair:
            break
    producers = Producers(ring, chance, pairs=chance.choice([0.2, 0.5, 1.0]) if pair else chance.choice([0.0, 0.5]))
    for step in range(STEPS):
        producers.work(chance.choice([0, 1, 20]))
        turns = 0

        def stop() -> bool:
            nonlocal turns
            turns += 1
            producers.work(chance.randint(1, 3))
            return turns > TURNS  # WaitStopped: both sides stand still

        draw = ring.draw(DrawRequest(step, plain, pair), 600.0, stop)
        ring.release(draw)
        ring.set_step(step + 1)
        for group in draw.groups[:1]:
            ring.pin(group.row, group.generation)
        if chance.random() < 0.3 and ring.pinned():
            ring.unpin(*ring.pinned()[0])
    assert ring.check() == []
