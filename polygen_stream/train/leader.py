"""What only the leading rank of each node does: the ring's step, metrics, draw log and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from polygen_stream.checkpoints import remove_partial
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.checkpoint import CheckpointWriter, capture
from polygen_stream.train.late_results import FinishedStep
from polygen_stream.train.metrics_logger import MetricsLogger
from polygen_stream.train.trainer import Trainer


class Leader:
    """Records a node's training in the ring and in the run folder.

    The initial checkpoint is saved if training begins, what an earlier attempt left half-written is removed.

    Args:
        trainer: of the rank that leads.
        start_time: when this process started, on the monotonic clock.
    """

    def __init__(self, trainer: Trainer, start_time: float) -> None:
        context = trainer.context
        self._trainer, self._start_time = trainer, start_time
        self._config, self._ring = context.config, context.ring
        self._metrics = MetricsLogger(context.run_dir, trainer.first_step)
        self._checkpoints = CheckpointWriter(context.run_dir, context.config)
        remove_partial(context.run_dir)
        self._ring.set_step(trainer.first_step)
        if not trainer.resumed:
            self.save_checkpoint(0)

    def record_draw(self, batch: TrainBatch) -> None:
        """Advance the ring's step past that of the batch, and log what was drawn for it."""
        assert batch.draw_record is not None, "a batch of a ring has a record of its draw"
        self._ring.set_step(batch.step + 1)
        self._metrics.log_draw(batch.draw_record)

    def record_results(self, finished: Sequence[FinishedStep]) -> None:
        """Log the metrics of those steps for which the config asks for them."""
        train = self._config.train
        for each in finished:
            step = each.batch.step
            if step % train.log_every == 0 or step + 1 == train.steps:
                time_s = each.ended - self._start_time
                stats = self._ring.stats()
                feedback = self._ring.read_feedback() if self._metrics.feedback_due(step) else None
                self._metrics.log_step(each.batch, each.result, stats, feedback, time_s=time_s, step_s=each.step_s)

    def save_checkpoint(self, steps_done: int) -> None:
        """Save a checkpoint during training."""
        self._save_checkpoint(steps_done, final=False)

    def finish(self, steps_done: int) -> None:
        """Save the final checkpoint, wait until it is on disk, and close the logs."""
        self._save_checkpoint(steps_done, final=True)
        self._checkpoints.wait()
        self._metrics.close()

    def _save_checkpoint(self, step: int, *, final: bool) -> None:
        trainer = self._trainer
        self._ring.heartbeat(f"saving the checkpoint of step {step}")
        captured = capture(
            step=step,
            final=final,
            config=self._config,
            model=trainer.model,
            optimizer=trainer.optimizer,
            curriculum=trainer.curriculum.state_dict(),
            data=trainer.reader.state_dict(),
            average=trainer.average and trainer.average.module,
            ring=self._ring,
            model_config=trainer.model_config,
        )
        self._checkpoints.save(captured)
