"""What the ring tests share: a small ring, groups to open, pictures that can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from polygen_stream.ring import Claim, Kind, Member, Ring, RingSpec

GENERATORS = ("one", "two")


def small_spec(**changes) -> RingSpec:
    """32 slots, 16 group rows, 2 generators, 4 x 4 pictures."""
    values = {
        "slots": 32,
        "image_shape": (4, 4, 3),
        "groups": 16,
        "members": 4,
        "caption_bytes": 32,
        "generators": GENERATORS,
        "seed": 7,
        "max_open": 16,
    }
    return RingSpec(**(values | changes))


@contextmanager
def ring_maker(folder: Path | None = None) -> Iterator[Callable[..., Ring]]:
    """make(**changes to small_spec) -> Ring, with a file each if there is a `folder`; all are closed at the end."""
    rings = []

    def make(**changes) -> Ring:
        if folder is not None:
            changes["storage"] = str(folder / f"{len(rings)}.ring")
        rings.append(Ring.create(small_spec(**changes), lock_timeout_s=5.0))
        rings[-1].register("test", "test")
        return rings[-1]

    yield make
    for ring in rings:
        ring.close()


def open_plain(ring: Ring, task: int, caption: str | None = None, timeout_s: float = 0.0) -> int:
    """A plain group with one positive of each of the first two generators."""
    members = [Member(generator, 0, 10 * task + generator) for generator in (0, 1)]
    return ring.open_group(task, Kind.PLAIN, caption or f"caption {task}", None, members, timeout_s)


def open_pair(
    ring: Ring, task: int, caption: str | None = None, negative: str | None = None, timeout_s: float = 0.0
) -> int:
    """A pair with a positive and a negative of each of the first two generators."""
    members = [Member(generator, polarity, 10 * task + generator) for polarity in (0, 1) for generator in (0, 1)]
    caption, negative = caption or f"caption {task}", negative or f"negative {task}"
    return ring.open_group(task, Kind.PAIR, caption, negative, members, timeout_s)


def pictures(claims: list[Claim], shape: tuple[int, ...] = (4, 4, 3)) -> np.ndarray:
    """One picture per claim, a function of the claim's seed and polarity alone."""
    return np.stack([np.random.default_rng([c.seed, c.polarity]).integers(0, 256, shape, np.uint8) for c in claims])


def render(ring: Ring, generators: tuple[int, ...] = (0, 1), limit: int = 10**6) -> int:
    """Claims and commits up to `limit` wanted members; how many there were."""
    done = 0
    while done < limit and (claims := ring.claim(generators, min(8, limit - done))):
        assert all(ring.commit(claims, pictures(claims, ring.spec.image_shape)))
        done += len(claims)
    return done


def tasks(draw) -> list[int]:
    return [group.task_id for group in draw.groups]
