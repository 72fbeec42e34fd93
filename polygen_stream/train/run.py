"""The trainer: draw -> stage -> augment -> CLIP -> losses -> step, until the run's steps are done or SIGTERM.

    python -m polygen_stream.train.run --run-dir DIR --ring-fd FD --name trainer

With train.ranks > 1 that many processes run this, told apart by the environment variables of torchrun. All train on
their parts of the same batches and take the same steps; rank 0 of each node alone writes checkpoints, metrics and the
draw log.

In a run folder that has a checkpoint, training continues from the newest one; the supervisor makes sure that the ring
fits it. What a step draws at random is a function of (seed, step, rank), so there are no random states to save.

The trainer sees generated images only, through the ring; it never imports the micro world that renders or describes
them.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing

import torch

from polygen_stream.base.seeding import key
from polygen_stream.roles.role import RoleContext, run_role
from polygen_stream.train.feedback import report_feedback
from polygen_stream.train.late_results import LateResults
from polygen_stream.train.leader import Leader
from polygen_stream.train.lost_ranks import reporting_lost_ranks
from polygen_stream.train.process_group import leave_ranks
from polygen_stream.train.step import issue_step
from polygen_stream.train.trainer import Trainer, build_trainer, checkpoint_due, yield_device


def main(context: RoleContext) -> None:
    """Set up the trainer and train."""
    start_time = time.monotonic()
    logging.basicConfig(level=logging.INFO)
    train(build_trainer(context), start_time)


def train(trainer: Trainer, start_time: float) -> None:
    """Train until the run's steps are done or a rank is asked to stop, and save the final checkpoint.

    On a GPU the results of a step are read when the next one has been issued, so that the GPU never waits for the
    host; before a checkpoint, those of all steps are.

    Args:
        trainer: what to train.
        start_time: when this process started, on the monotonic clock.
    """
    context, ranks, model = trainer.context, trainer.ranks, trainer.model
    config, ring, device_lock = context.config, context.ring, trainer.device_lock
    model.train()
    steps_done = trainer.first_step
    with closing(trainer.reader):
        leader = Leader(trainer, start_time) if ranks.is_leader else None
        late = LateResults(lag=1 if ranks.device.type == "cuda" else 0)
        for batch in trainer.reader:  # drawn from the ring and staged on the device while the step before computes
            # A process that is asked to stop during this wait still takes the step: its batch has been drawn.
            device_lock.acquire(ring.heartbeat, lambda: context.stopping)
            step_start = time.monotonic()
            torch.manual_seed(key(config.seed, "step", batch.step, ranks.rank) >> 1)
            with reporting_lost_ranks(f"rank {ranks.rank} was training step {batch.step}"):
                # augment -> CLIP -> losses -> backward -> clip gradients -> update (step.py)
                issued = issue_step(model, trainer.optimizer, batch, config, trainer.ddp)
            if trainer.average is not None:
                trainer.average.update_parameters(model)
            steps_done = batch.step + 1
            if leader is not None:
                leader.record_draw(batch)
            finished = late.add(batch, issued, step_start)
            step_s = time.monotonic() - step_start
            ring.heartbeat(f"step {steps_done} of {config.train.steps}", batch.waited_s, step_s)
            if save := checkpoint_due(config.train, steps_done):
                finished += late.rest()
            report_feedback(ring, finished)
            if leader is not None:
                leader.record_results(finished)
                if save:
                    leader.save_checkpoint(steps_done)
            device_lock.touch()
            if device_lock.slice_expired():
                yield_device(device_lock, ranks.device)
        finished = late.rest()
        report_feedback(ring, finished)
        if leader is not None:
            leader.record_results(finished)
    if leader is not None:
        leader.finish(steps_done)
    leave_ranks(ranks)


if __name__ == "__main__":
    run_role(main, "trainer")
