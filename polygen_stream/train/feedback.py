"""From the results of steps to the feedback board of the ring."""

from __future__ import annotations

from collections.abc import Sequence

from polygen_stream.ring import Measurement, Ring
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.late_results import FinishedStep
from polygen_stream.train.step import StepResult


def report_feedback(ring: Ring, finished: Sequence[FinishedStep]) -> None:
    """Add what finished steps measured to the feedback board of the node's ring."""
    for step in finished:
        if (measured := as_measurement(step.batch, step.result)) is not None:
            ring.add_feedback(measured)


def as_measurement(batch: TrainBatch, result: StepResult) -> Measurement | None:
    """Return what a step measured, with the rows of the feedback board; None for a batch that is not from a ring."""
    if batch.feedback_rows is None or result.measured is None:
        return None
    loss, correct, margin = result.measured.double().numpy()
    return Measurement(batch.step, batch.feedback_rows, loss, correct > 0, margin)
