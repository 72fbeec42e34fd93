"""What the trainer logs of its steps: metrics, their TensorBoard scalars, and the draw log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from polygen_stream.base.jsonl import JsonLines, cut_jsonl, read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.ring import CellMeans, DrawRecord, Feedback, RingStats
from polygen_stream.ring.draw_log import DrawLog
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.step import StepResult
from polygen_stream.train.tensorboard import TensorBoard

FEEDBACK_EVERY = 10  # steps: it changes slowly, and is as long as all else of a line


class MetricsLogger:
    """Writes the metrics and the draw log of a run. One process of a run folder does.

    Args:
        run_dir: the run folder.
        first_step: the step that training (re)starts at. What an earlier attempt wrote from it on is removed.
    """

    def __init__(self, run_dir: Path, first_step: int = 0) -> None:
        run = RunFolder(run_dir)
        cut_jsonl(run.metrics, first_step)
        self._metrics = JsonLines(run.metrics)
        self._draw_log = DrawLog(run.draw_log, first_step)
        self._tensorboard = TensorBoard(run.tensorboard, first_step=first_step)
        self._feedback_due = first_step
        self._earlier_s = max((record["time"] for record in read_jsonl(run.metrics)), default=0.0)

    def log_draw(self, record: DrawRecord) -> None:
        """Append a step's draw to the draw log."""
        self._draw_log.write(record)

    def log_step(
        self,
        batch: TrainBatch,
        result: StepResult,
        stats: RingStats,
        feedback: Feedback | None,
        *,
        time_s: float,
        step_s: float,
    ) -> None:
        """Append a step's metrics.

        Args:
            batch: what the step was trained on.
            result: what came of it.
            stats: of the ring now; the next batch may have been drawn already.
            feedback: of the ring now, if it is due.
            time_s: seconds from the start of this process to the end of the step; those of earlier attempts are added.
            step_s: seconds of the step's work, without `batch.waited_s`.
        """
        record = step_record(batch, result, stats, time_s=self._earlier_s + time_s, step_s=step_s)
        if feedback is not None:
            record["feedback"] = {"axes": _means(feedback.axes), "generators": _means(feedback.generators)}
            self._feedback_due = batch.step + FEEDBACK_EVERY
        if batch.leftover is not None:
            record["leftover"] = batch.leftover
        self._metrics.write(record)
        self._tensorboard.write(record)

    def feedback_due(self, step: int) -> bool:
        """Return whether the metrics of a step are to have the ring's feedback."""
        return step >= self._feedback_due

    def close(self) -> None:
        """Close the files."""
        for sink in (self._metrics, self._draw_log, self._tensorboard):
            sink.close()


def step_record(
    batch: TrainBatch, result: StepResult, stats: RingStats, *, time_s: float, step_s: float
) -> dict[str, object]:
    """Build one line of metrics.jsonl.

    `wait_s` (for the ring and other ranks), `load_wait_s` (until the batch is read) and `step_s` (work) do not overlap.
    """
    return {
        "step": batch.step,
        "time": round(time_s, 4),
        "loss": result.loss,
        "loss_parts": result.loss_parts,
        "lr": result.lr,
        "p": batch.mix.share,
        "p_realised": result.negatives / result.texts,
        "logit_scale": result.logit_scale,
        "grad_norm": result.grad_norm,
        "wait_s": round(batch.waited_s, 6),
        "load_wait_s": round(batch.load_wait_s, 6),
        "step_s": round(step_s, 6),
        "images_committed": sum(stats.images_committed.values()),
        "groups_complete": sum(kind["complete"] for kind in stats.groups.values()),
        "mean_reuse": stats.mean_reuse,
        "texts": result.texts,
        "images": result.images,
    }


def _means(rows: Mapping[str, CellMeans]) -> dict[str, dict[str, float]]:
    """Return rows of the feedback board for JSON; the margin is missing where no pair was drawn."""
    return {
        name: {"loss": round(row.loss, 5), "correct": round(row.correct, 5), "weight": round(row.weight, 4)}
        | ({"margin": round(row.margin, 5)} if row.pairs else {})
        for name, row in rows.items()
    }
