"""The trainer: draw -> stage -> augment -> CLIP -> losses -> step, until the run's steps are done or SIGTERM.

    python -m polygen_stream.train.run --run-dir DIR --ring-fd FD --name trainer

Sees generated pictures only, through the ring; it never imports the micro world that draws or describes them.
"""

from __future__ import annotations

import logging
import time

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from polygen_stream.config import curriculum_of
from polygen_stream.errors import UserError
from polygen_stream.leftover import LeftoverQueue
from polygen_stream.monitor.metrics import JsonLines, TensorBoard
from polygen_stream.ring import RingStats
from polygen_stream.ring.draw_log import DrawLog
from polygen_stream.role import RoleContext, run_role
from polygen_stream.seeding import key
from polygen_stream.train.accumulate import check_divisible
from polygen_stream.train.checkpoint import remove_partial, save_checkpoint
from polygen_stream.train.data import Batch, RingReader
from polygen_stream.train.model import add_image_image_head, create_clip
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.precision import autocast_dtype
from polygen_stream.train.staging import staging_for
from polygen_stream.train.step import StepResult, train_step


def main(context: RoleContext) -> None:
    config, ring, run_dir = context.config, context.ring, context.run_dir
    train = config.train
    started = time.monotonic()
    device = training_device(train.device)
    logging.basicConfig(level=logging.INFO)
    logging.info("training on %s, autocast %s", device, autocast_dtype(train.precision, device))
    torch.manual_seed(key(config.seed, "model") >> 1)  # initial weights

    model, tokenizer = create_clip(train.model, device)
    if train.accumulate > 1:
        check_divisible(model, train)
    if train.image_image_head:
        add_image_image_head(model, train.model, train.image_image_head)
    optimizer = build_optimizer(model, train)
    average = None
    if train.ema:
        # Buffers too: the statistics of batch norms belong to the weights they were taken with.
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.ema), use_buffers=True)
    curriculum = curriculum_of(config)
    age = config.curriculum.leftover_age
    leftover = LeftoverQueue(ring, ring.spec.groups, age) if age else None
    reader = RingReader(
        ring,
        curriculum,
        tokenizer,
        staging_for(device, train.batch * ring.spec.members, ring.spec.image_shape),
        device,
        steps=train.steps,
        timeout_s=config.ring.draw_timeout_s,
        stop=lambda: context.stopping,
        leftover=leftover,
    )
    metrics, draws = JsonLines(run_dir / "metrics.jsonl"), DrawLog(run_dir / "draw_log.jsonl")
    board = TensorBoard(run_dir / "tensorboard")

    def save(step: int, final: bool) -> None:
        ring.heartbeat(f"saving the checkpoint of step {step}")
        save_checkpoint(
            run_dir,
            step=step,
            final=final,
            config=config,
            model=model,
            optimizer=optimizer,
            curriculum=curriculum.state_dict(),
            data=reader.state_dict(),
            average=average and average.module,
        )

    remove_partial(run_dir)
    save(0, final=False)
    model.train()
    done = 0
    for batch in reader:
        begun = time.monotonic()
        result = train_step(model, optimizer, batch, config)
        if average is not None:
            average.update_parameters(model)
        done = batch.step + 1
        ring.set_step(done)

        draws.write(batch.drawn)
        step_s = time.monotonic() - begun
        ring.heartbeat(f"step {done} of {train.steps}", batch.waited_s, step_s)
        if batch.step % train.log_every == 0 or done == train.steps:
            now = time.monotonic() - started
            record = step_record(batch, result, ring.stats(), time_s=now, step_s=step_s)
            if leftover is not None:
                record["leftover"] = leftover.counts()
            metrics.write(record)
            board.write(record)
        if done % train.checkpoint_every == 0 and done < train.steps:
            save(done, final=False)
    save(done, final=True)

    for sink in (metrics, draws, board):
        sink.close()


def step_record(
    batch: Batch, result: StepResult, stats: RingStats, *, time_s: float, step_s: float
) -> dict[str, object]:
    """One line of metrics.jsonl. `wait_s` (for the ring) and `step_s` (work) do not overlap."""
    return {
        "step": batch.step,
        "time": round(time_s, 4),
        "loss": result.loss,
        "loss_parts": result.loss_parts,
        "lr": result.lr,
        "p": batch.mix.share,
        "p_realised": batch.layout.negatives / len(batch.texts),
        "logit_scale": result.logit_scale,
        "grad_norm": result.grad_norm,
        "wait_s": round(batch.waited_s, 6),
        "step_s": round(step_s, 6),
        "images_committed": sum(stats.images_committed.values()),
        "groups_complete": sum(kind["complete"] for kind in stats.groups.values()),
        "mean_reuse": stats.mean_reuse,
        "texts": len(batch.texts),
        "images": len(batch.images),
    }


def training_device(name: str) -> torch.device:
    """The device of `train.device`.

    Raises:
        UserError: no such device on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"train.device = {name!r} is not a device: use 'cpu' or 'cuda:0'") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"train.device = {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices that"
            " torch can use: set train.device = 'cpu', or see `polygen-stream doctor`"
        )
    return device


if __name__ == "__main__":
    run_role(main, "trainer")
