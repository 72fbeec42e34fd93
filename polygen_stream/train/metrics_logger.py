"""What training writes down of every step: metrics, TensorBoard, the draw log."""

from __future__ import annotations

from pathlib import Path

from polygen_stream.base.jsonl import JsonLines, cut_jsonl, read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.ring import RingStats
from polygen_stream.ring.draw_log import DrawLog
from polygen_stream.schedule.leftover import LeftoverQueue
from polygen_stream.train.data import TrainBatch
from polygen_stream.train.step import StepResult
from polygen_stream.train.tensorboard import TensorBoard


class MetricsLogger:
    """Of one run, kept by one process.

    Args:
        first_step: the step that training (re)starts at: what an earlier attempt wrote from it on is removed.
    """

    def __init__(self, run_dir: Path, first_step: int = 0) -> None:
        run = RunFolder(run_dir)
        cut_jsonl(run.metrics, first_step)
        self._metrics = JsonLines(run.metrics)
        self._draws = DrawLog(run.draw_log, first_step)
        self._board = TensorBoard(run.tensorboard, first_step=first_step)
        self._seconds_before = max((record["time"] for record in read_jsonl(run.metrics)), default=0.0)

    def drawn(self, batch: TrainBatch) -> None:
        self._draws.write(batch.draw_record)

    def step(
        self,
        batch: TrainBatch,
        result: StepResult,
        stats: RingStats,
        leftover: LeftoverQueue | None,
        *,
        time_s: float,
        step_s: float,
    ) -> None:
        record = step_record(batch, result, stats, time_s=self._seconds_before + time_s, step_s=step_s)
        if leftover is not None:
            record["leftover"] = leftover.counts()
        self._metrics.write(record)
        self._board.write(record)

    def close(self) -> None:
        for sink in (self._metrics, self._draws, self._board):
            sink.close()


def step_record(
    batch: TrainBatch, result: StepResult, stats: RingStats, *, time_s: float, step_s: float
) -> dict[str, object]:
    """One line of metrics.jsonl. `wait_s` (for the ring) and `step_s` (work) do not overlap."""
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
        "step_s": round(step_s, 6),
        "images_committed": sum(stats.images_committed.values()),
        "groups_complete": sum(kind["complete"] for kind in stats.groups.values()),
        "mean_reuse": stats.mean_reuse,
        "texts": result.texts,
        "images": result.images,
    }
