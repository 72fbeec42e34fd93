"""The trainer: draw -> stage -> augment -> CLIP -> losses -> step, until the run's steps are done or SIGTERM.

    python -m polygen_stream.train.run --run-dir DIR --ring-fd FD --name trainer

With train.ranks > 1 that many processes run this, told apart by the environment variables of torchrun. All draw their
shares of the same batches and take the same steps; rank 0 alone writes checkpoints, metrics and the draw log.

In a run folder that has a checkpoint, training goes on from the newest one; whoever starts the trainer has seen to it
that the ring fits. What a step draws at random is a function of (seed, step, rank), so there are no random states to
keep.

Sees generated pictures only, through the ring; it never imports the micro world that draws or describes them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from polygen_stream.assets.model_configs import is_model_file, read_model_config
from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.base.seeding import key
from polygen_stream.checkpoints import discard_after, read_meta, remove_partial
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.roles.device_lock import DeviceLock
from polygen_stream.roles.role import RoleContext, run_role
from polygen_stream.schedule.leftover import LeftoverQueue
from polygen_stream.train.checkpoint import (
    CheckpointWriter,
    capture,
    load_checkpoint,
    newest_checkpoint,
    read_model_state,
)
from polygen_stream.train.data import RingReader
from polygen_stream.train.device import training_device
from polygen_stream.train.grad_cache import check_divisible
from polygen_stream.train.lost_ranks import reporting_lost_ranks
from polygen_stream.train.metrics_logger import MetricsLogger
from polygen_stream.train.model import add_image_image_head, compile_towers, create_clip, load_model_state
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.parallel import distribute
from polygen_stream.train.precision import autocast_dtype, prefer_plain_attention
from polygen_stream.train.process_group import RankGroup, join_ranks, leave_ranks, rank_from_environment
from polygen_stream.train.replay_schedule import ReplaySchedule
from polygen_stream.train.staging import staging_for
from polygen_stream.train.step import train_step


def main(context: RoleContext) -> None:
    config, ring, run_dir = context.config, context.ring, context.run_dir
    train = config.train
    started = time.monotonic()
    world = train.ranks * config.launch.nodes
    rank, local_rank = rank_from_environment(world)
    device = training_device(train.device, local_rank)
    logging.basicConfig(level=logging.INFO)
    logging.info("rank %d of %d: %s, autocast %s", rank, world, device, autocast_dtype(train.precision, device))
    prefer_plain_attention(device)
    gang = join_ranks(config, device, ring.heartbeat)
    device_lock = context.device_lock(str(device))
    torch.manual_seed(key(config.seed, "model") >> 1)  # initial weights

    architecture = read_model_config(Path(train.model)) if is_model_file(train.model) else None
    model, tokenizer = create_clip(train.model, device, architecture)
    if train.accum_freq > 1:
        check_divisible(model, train)
    if train.image_image_head:
        add_image_image_head(model, train.model, train.image_image_head)
    folder = _common_checkpoint(gang, config, run_dir)
    found = None if folder is None else load_checkpoint(folder)
    start = 0 if found is None else found.meta["step"]
    if found is not None:
        logging.info("going on from %s", folder)
        if found.meta.get("model_config") != architecture:
            raise UserError(f"{train.model} is not the model config that {folder} was trained with: restore it")
        load_model_state(model, found.model, folder)
    parallel = distribute(model, device) if gang.world > 1 else None
    optimizer = build_optimizer(model, train)
    if found is not None:
        optimizer.load_state_dict(found.training["optimizer"])
    average = None
    if train.ema_decay and gang.leads:
        # Buffers too: the statistics of batch norms belong to the weights they were taken with.
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.ema_decay), use_buffers=True)
        if start:
            load_model_state(average.module, read_model_state(folder, averaged=True), folder)
            average.n_averaged.fill_(start)  # 0 means that the average begins with the next step
    if train.compile:
        compile_towers(model)
    curriculum = curriculum_of(config)
    age = config.curriculum.leftover_age
    leftover = LeftoverQueue(ring, ring.spec.groups, age) if age and gang.leads else None
    reader = RingReader(
        ring,
        curriculum,
        tokenizer,
        staging_for(device, train.batch * config.generators.positives, ring.spec.image_shape),
        device,
        steps=train.steps,
        timeout_s=config.ring.draw_timeout_s,
        stop=_stop_of(context, device_lock),
        local_rank=gang.local_rank,
        local_world_size=gang.local_world,
        nodes=config.launch.nodes,
        step_barrier=gang.gate,
        leftover=leftover,
        replay_schedule=ReplaySchedule(context.run_folder.replay_schedule)
        if ring.spec.mode == "replay" and gang.leads
        else None,
    )
    if found is not None:
        reader.reset(found.training["data"])
    writer = CheckpointWriter(run_dir, config)

    def save(step: int, final: bool) -> None:
        ring.heartbeat(f"saving the checkpoint of step {step}")
        captured = capture(
            step=step,
            final=final,
            config=config,
            model=model,
            optimizer=optimizer,
            curriculum=curriculum.state_dict(),
            data=reader.state_dict(),
            average=average and average.module,
            ring=ring,
            model_config=architecture,
        )
        writer.save(captured)

    if gang.leads:
        diary = MetricsLogger(run_dir, start)
        remove_partial(run_dir)
        ring.set_step(start)
        if found is None:
            save(0, final=False)
    model.train()
    done = start
    for batch in reader:
        # Told to stop while it waits it takes this one step all the same: the batch has been drawn.
        device_lock.acquire(ring.heartbeat, lambda: context.stopping)
        begun = time.monotonic()
        torch.manual_seed(key(config.seed, "step", batch.step, gang.rank) >> 1)
        with reporting_lost_ranks(f"rank {gang.rank} was training step {batch.step}"):
            result = train_step(model, optimizer, batch, config, parallel)
        if average is not None:
            average.update_parameters(model)
        done = batch.step + 1
        if gang.leads:
            ring.set_step(done)
            diary.drawn(batch)
        step_s = time.monotonic() - begun
        ring.heartbeat(f"step {done} of {train.steps}", batch.waited_s, step_s)
        if not gang.leads:
            continue
        if batch.step % train.log_every == 0 or done == train.steps:
            diary.step(batch, result, ring.stats(), leftover, time_s=time.monotonic() - started, step_s=step_s)
        if done % train.checkpoint_every == 0 and done < train.steps:
            save(done, final=False)
        device_lock.touch()
        if device_lock.slice_expired():
            _give(device_lock)
    if gang.leads:
        save(done, final=True)
        writer.wait()
        diary.close()
    leave_ranks(gang)


def _stop_of(context: RoleContext, device_lock: DeviceLock) -> Callable[[], bool]:
    """What the reader asks while it waits for a batch; meanwhile the producers may have the device."""

    def stop() -> bool:
        if device_lock.idle_while_contested():
            _give(device_lock)
        return context.stopping

    return stop


def _give(device_lock: DeviceLock) -> None:
    torch.cuda.empty_cache()  # the activations' memory; model and optimizer stay
    device_lock.release()


def _common_checkpoint(gang: RankGroup, config: RunConfig, run_dir: Path) -> Path | None:
    """The newest checkpoint that every node has, and no later one is left here; None: training begins.

    Raises:
        UserError: this node has none of the step that another one has to go on from.
    """
    newest = newest_checkpoint(run_dir)
    step = gang.agreed_step(config, 0 if newest is None else read_meta(newest)["step"])
    folder = RunFolder(run_dir).checkpoint(step)
    if folder.is_dir():
        if gang.leads:
            discard_after(run_dir, step)
        return folder
    if step:
        raise UserError(
            f"another node goes on from step {step}, the newest here is {newest} and {folder} is not there: raise "
            "train.keep_checkpoints, or remove the checkpoints of all nodes to begin again"
        )
    return None


if __name__ == "__main__":
    run_role(main, "trainer")
