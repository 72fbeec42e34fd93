"""Which specs make a ring: sizes that fit each other, and rules under which neither side waits for ever."""

from __future__ import annotations

from polygen_stream.base.errors import UserError
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.window import check_window

MAX_GENERATORS = 62  # a process row records the generators it serves in one signed 8-byte mask


def check_spec(spec: RingSpec) -> None:
    """Refuse a spec of which no working ring can be made.

    Raises:
        UserError: which value is wrong, why, and what to change.
        TypeError: a value is of another type than RingSpec declares.
    """
    _check_sizes(spec)
    _check_generators(spec)
    _check_draws(spec)
    Limits.of(spec).check(spec.groups, spec.slots)
    if spec.mode == "deterministic":
        check_window(spec)
    elif spec.mode not in ("throughput", "replay"):
        raise UserError(f'ring.mode is {spec.mode!r}; it must be "throughput", "deterministic" or "replay"')


def _check_sizes(spec: RingSpec) -> None:
    for name in ("slots", "groups", "members", "caption_bytes"):
        if getattr(spec, name) < 1:
            raise UserError(f"ring.{name} is {getattr(spec, name)}; it must be at least 1")
    for name in ("max_retries", "max_open", "max_backlog", "in_flight", "window", "inserts_per_step"):
        if getattr(spec, name) < 0:
            raise UserError(f"ring.{name} is {getattr(spec, name)}; it must not be negative")
    if len(spec.image_shape) != 3 or spec.image_shape[2] != 3 or min(spec.image_shape) < 1:
        raise UserError(f"ring image shape is {spec.image_shape}; it must be (height, width, 3)")
    if spec.members > spec.slots:
        raise UserError(
            f"one group may need {spec.members} images but the ring has only {spec.slots} slots; raise ring.slots"
        )
    if 0 < spec.max_backlog < spec.members:
        raise UserError(
            f"ring.max_backlog is {spec.max_backlog}, but one group may ask a generator for {spec.members} images; "
            "raise ring.max_backlog (0 = no bound)"
        )


def _check_draws(spec: RingSpec) -> None:
    if not 0.1 <= spec.feedback_half_life < float("inf"):
        raise UserError(f"synthesis.half_life is {spec.feedback_half_life}; it must be 0.1 steps or more")
    if spec.catch_up < 1:
        raise UserError(f"ring.catch_up is {spec.catch_up}; it must be at least 1, where late captions do not catch up")


def _check_generators(spec: RingSpec) -> None:
    if not 1 <= len(spec.generators) <= MAX_GENERATORS:
        raise UserError(f"the ring takes 1 to {MAX_GENERATORS} generators, got {len(spec.generators)}")
    if len(set(spec.generators)) != len(spec.generators):
        raise UserError(f"generators are listed twice: {', '.join(spec.generators)}")
