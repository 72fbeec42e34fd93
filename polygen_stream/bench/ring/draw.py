"""What a draw costs in a full ring: under the mutex, and as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from polygen_stream.bench.baselines.timed_control import TimedControl
from polygen_stream.bench.statistics import summarise
from polygen_stream.ring import DrawRequest, Kind, Ring, RingSpec, memory, ring_bytes
from polygen_stream.ring.checksum import checksums
from polygen_stream.ring.invariants import broken_invariants
from polygen_stream.ring.layout import Total
from polygen_stream.ring.records import GROUP_KINDS, GroupState, Polarity, SlotState
from polygen_stream.ring.texts import text_key
from polygen_stream.ring.undo_journal import Operation

BATCH = 512
SLOTS = 65_536
GENERATORS = ("a", "b", "c", "d")
CATEGORIES = len(GROUP_KINDS) * len(GENERATORS)
GROWTH = (1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
CAPTION_BYTES = 16
DRAW_TIMEOUT_S = 60.0


def measure_draw(slots: int, per_caption: int, draws: int) -> dict[str, Any]:
    """Draws of BATCH captions, half of them PAIR, from `slots` slots with `per_caption` images each, in ms."""
    batch = min(BATCH, slots // per_caption // 2)
    with full_ring(slots, per_caption) as (ring, control):
        whole = []
        for step in range(draws + 2):
            began = time.perf_counter()
            draw = ring.draw(DrawRequest(step, batch - batch // 2, batch // 2), DRAW_TIMEOUT_S)
            whole.append(time.perf_counter() - began)
            ring.release(draw)
        held = control.take(Operation.DRAW).held_s
    return {
        "slots": slots,
        "captions": slots // per_caption,
        "drawn_captions": batch,
        "drawn_images": batch * per_caption,
        "held_ms": summarise(1e3 * np.array(held[2:])),  # the first ones touch the memory
        "whole_ms": summarise(1e3 * np.array(whole[2:])),
    }


@contextmanager
def full_ring(slots: int, per_caption: int) -> Iterator[tuple[Ring, TimedControl]]:
    """A ring of complete groups only, CATEGORIES (kind, generator) pairs, pictures of one pixel.

    Its columns are written at once, because a million openings would take an hour; the ring's own invariants are
    asked whether they could have come about.
    """
    groups = slots // per_caption
    spec = RingSpec(
        slots=slots,
        image_shape=(1, 1, 3),
        groups=groups,
        members=per_caption,
        caption_bytes=CAPTION_BYTES,
        generators=GENERATORS,
        seed=0,
    )
    control = TimedControl(memory.allocate(ring_bytes(spec)), DRAW_TIMEOUT_S, spec)
    ring = Ring(control)
    try:
        _fill(control, groups, per_caption)
        problems = broken_invariants(control.columns, spec)
        assert not problems, problems
        ring.register("trainer", "bench")
        yield ring, control
    finally:
        ring.close()


def _fill(control: TimedControl, groups: int, per_caption: int) -> None:
    c = control.columns
    rows, slots = np.arange(groups), np.arange(groups * per_caption)
    c.slot_state[:] = SlotState.READY
    c.slot_group[:] = np.repeat(rows, per_caption)
    c.slot_member[:] = np.tile(np.arange(per_caption), groups)
    # one image a caption: generators in turn, so that every kind has all of them
    c.slot_generator[:] = (slots if per_caption > 1 else slots // len(GROUP_KINDS)) % len(GENERATORS)
    c.slot_polarity[:] = Polarity.POSITIVE
    c.slot_checksum[:] = checksums(c.payload[:1])[0]
    c.group_slot[:] = slots
    c.group_state[:] = GroupState.COMPLETE
    c.group_kind[:] = rows % len(GROUP_KINDS)
    c.group_members[:] = c.group_positives[:] = per_caption
    c.group_generation[:] = 1
    c.group_task[:] = np.random.default_rng(0).permutation(groups)  # arrival order is not row order
    c.group_order[:] = rows
    c.group_negative_bytes[:] = -1
    for row, task in enumerate(c.group_task.tolist()):
        text, twin = b"t%d" % task, b"n%d" % task
        c.text[row, 0, : len(text)] = np.frombuffer(text, np.uint8)
        c.group_caption_bytes[row], c.group_caption_key[row] = len(text), text_key(text)
        if row % len(GROUP_KINDS) == Kind.PAIR:
            c.text[row, 1, : len(twin)] = np.frombuffer(twin, np.uint8)
            c.group_negative_bytes[row], c.group_negative_key[row] = len(twin), text_key(twin)
    c.generator_committed[:] = np.bincount(c.slot_generator, minlength=len(GENERATORS))
    c.total[Total.OPENED] = c.total[Total.COMPLETED] = c.total[Total.SEQUENCE] = groups
