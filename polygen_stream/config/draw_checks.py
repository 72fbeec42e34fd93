"""Which options of a ring's draws contradict each other, or could never be met."""

from __future__ import annotations

from polygen_stream.base.errors import UserError
from polygen_stream.config.derived import task_window
from polygen_stream.config.schema import RunConfig


def check_catch_up(config: RunConfig) -> None:
    """Refuse ring.catch_up where rounds do not decide, or where limits keep captions from being drawn as often."""
    ring = config.ring
    for key, value, needed in (
        ("ring.mode", ring.mode, "throughput"),
        ("ring.sampler", ring.sampler, "rounds"),
        ("curriculum.kind", config.curriculum.kind, "share"),
        ("ring.max_age", ring.max_age, 0),
        ("ring.max_times_sampled", ring.max_times_sampled, 0),
    ):
        if value != needed:
            raise UserError(
                f"ring.catch_up = {ring.catch_up:g} has no meaning with {key} = {value!r}: set ring.catch_up = 1 or "
                f"{key} = {needed!r}"
            )


def check_policy(config: RunConfig) -> None:
    """Refuse a policy where nothing could follow it: captions that are given, or batches that must not depend on it."""
    policy = f"synthesis.policy = {config.synthesis.policy!r}"
    if config.ring.mode == "deterministic":
        raise UserError(
            f"{policy} has no place in ring.mode = 'deterministic', where every caption follows from the seed: set "
            "synthesis.policy = 'uniform' or ring.mode = 'throughput'"
        )
    if config.captions.source == "shards":
        raise UserError(
            f"{policy} has nothing to choose with captions.source = 'shards', whose captions are given: set "
            "synthesis.policy = 'uniform'"
        )


def check_deterministic(config: RunConfig) -> None:
    """Refuse a deterministic ring whose rules contradict, or that could never hold what a step waits for."""
    ring = config.ring
    for name in ("error_buffer", "max_times_sampled", "max_age"):
        if getattr(ring, name):
            raise UserError(
                f"ring.{name} = {getattr(ring, name)} has no meaning with ring.mode = 'deterministic', where reuse "
                f"follows from ring.window and ring.samples_per_insert: set ring.{name} = 0"
            )
    if config.curriculum.leftover_age:
        raise UserError(
            f"curriculum.leftover_age = {config.curriculum.leftover_age} has no meaning with ring.mode = "
            "'deterministic', whose window says how long each caption stays: set curriculum.leftover_age = 0"
        )
    if not ring.samples_per_insert and not config.captions.target:
        raise UserError(
            "ring.mode = 'deterministic' needs a pace: set ring.samples_per_insert to the draws per caption, or "
            "captions.target to the captions of the run"
        )
    window, _ = task_window(config)
    images = config.generators.positives + config.generators.negatives
    if window * images > ring.slots:
        raise UserError(
            f"ring.window = {window} captions x up to {images} images = {window * images} do not fit ring.slots = "
            f"{ring.slots}: a step would wait for captions that find no room; lower ring.window to "
            f"{ring.slots // images} or raise ring.slots"
        )
    if window < ring.min_fill:
        raise UserError(
            f"ring.window = {window} captions is less than ring.min_fill = {ring.min_fill}, which the first step waits "
            "for: raise ring.window or lower ring.min_fill"
        )
