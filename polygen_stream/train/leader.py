"""What only the leading rank of each node does: the ring's step, metrics, draw log and checkpoints."""

from __future__ import annotations

import time

from polygen_stream.checkpoints import remove_partial
from polygen_stream.train.checkpoint import CheckpointWriter, capture
from polygen_stream.train.data import TrainBatch
from polygen_stream.train.metrics_logger import MetricsLogger
from polygen_stream.train.step import StepResult
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
            self._save_checkpoint(0, final=False)

    def record_draw(self, batch: TrainBatch) -> None:
        """Advance the ring's step past that of the batch, and log what was drawn for it."""
        assert batch.draw_record is not None, "a batch of a ring has a record of its draw"
        self._ring.set_step(batch.step + 1)
        self._metrics.log_draw(batch.draw_record)

    def record_step(self, batch: TrainBatch, result: StepResult, step_s: float) -> None:
        """Log the metrics of a step and save a checkpoint, at the steps at which the config asks for them."""
        train, steps_done = self._config.train, batch.step + 1
        if batch.step % train.log_every == 0 or steps_done == train.steps:
            self._metrics.log_step(
                batch,
                result,
                self._ring.stats(),
                self._trainer.leftover,
                time_s=time.monotonic() - self._start_time,
                step_s=step_s,
            )
        if steps_done % train.checkpoint_every == 0 and steps_done < train.steps:
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
