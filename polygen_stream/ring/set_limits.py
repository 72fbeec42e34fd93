"""Changing the limits of a ring that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import Total
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.undo_journal import Operation


def set_limits(control: Control, changes: Mapping[str, float]) -> Limits:
    """Change some of the limits, all or none. Return the limits that hold now.

    UserError: the new numbers would stop both sides for ever, given the batches drawn so far.
    """
    spec, c = control.spec, control.columns
    if spec.deterministic:
        raise UserError(
            "the limits of a deterministic ring are part of what its batches depend on; set them in the config and "
            "start a new run"
        )
    with control.transition(Operation.NOTE) as journal:
        old = Limits.read(c)
        new = replace(old, **changes)
        new.check(spec.groups, spec.slots)
        completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
        if new.min_fill != old.min_fill and samples:
            raise UserError(
                f"ring.min_fill cannot change from {old.min_fill} to {new.min_fill} after the first draw, which was "
                "all it was for; leave it as it is"
            )
        limiter = RateLimiter.read(c).changed_to(new, completed, samples)
        limiter.check_batch(control.total(Total.LARGEST_DRAW))
        cells = new.cells()
        journal.set("limit", np.arange(cells.size), cells)
        journal.set("limiter_offset", 0, int(np.float64(limiter.offset).view("i8")))
    return new
