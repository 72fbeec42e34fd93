"""What a trainer consists of on one rank, and how it is set up from a config and, where there is one, a checkpoint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from polygen_stream.assets.model_configs import is_model_file, model_name, read_model_config
from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import discard_after, last_checkpoint
from polygen_stream.config import RunConfig, TrainConfig, curriculum_of, images_per_text
from polygen_stream.ring.pins import most_pinned
from polygen_stream.roles.device_lock import DeviceLock
from polygen_stream.roles.role import RoleContext
from polygen_stream.schedule.curriculum import Curriculum
from polygen_stream.schedule.leftover import LeftoverQueue
from polygen_stream.schedule.other_sides import OtherSides
from polygen_stream.train.checkpoint import Checkpoint, load_checkpoint, read_model_state
from polygen_stream.train.data import RingReader
from polygen_stream.train.device import training_device
from polygen_stream.train.grad_cache import check_micro_batching
from polygen_stream.train.model import (
    ClipModel,
    Tokenizer,
    compile_towers,
    initial_clip,
    load_model_state,
)
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.parallel import wrap_in_ddp
from polygen_stream.train.precision import autocast_dtype, prefer_plain_attention
from polygen_stream.train.prefetch import Prefetcher, ReaderHeartbeat
from polygen_stream.train.process_group import RankGroup, join_ranks, rank_from_environment
from polygen_stream.train.replay_schedule import ReplaySchedule
from polygen_stream.train.staging import build_staging, most_texts


@dataclass(frozen=True)
class Trainer:
    """The parts of a trainer on one rank.

    Args:
        context: config, ring and run folder.
        ranks: the ranks of the trainer, and this one's position among them.
        device_lock: time slices on the training device, if the run shares it between processes.
        model: the CLIP, on the training device.
        model_config: what a file says of the model; None for a model that open_clip knows by name.
        ddp: the model wrapped for several ranks; None for a single process.
        optimizer: of the model's parameters.
        average: exponential moving average of the weights; None where the run keeps none, and on all but the leaders.
        curriculum: the draw mix of each step.
        reader: the batches; to be closed before the ring is.
        first_step: number of steps that the checkpoint has behind it; 0 if there is none.
        resumed: whether training continues from a checkpoint.
    """

    context: RoleContext
    ranks: RankGroup
    device_lock: DeviceLock
    model: ClipModel
    model_config: dict[str, Any] | None
    ddp: DistributedDataParallel | None
    optimizer: torch.optim.AdamW
    average: AveragedModel | None
    curriculum: Curriculum
    reader: Prefetcher
    first_step: int
    resumed: bool


def build_trainer(context: RoleContext) -> Trainer:
    """Join the other ranks, and build the trainer, from the newest checkpoint that all nodes have.

    Raises:
        UserError: the config cannot be trained on this machine, or a checkpoint does not fit it.
        RankLost: another rank is gone.
    """
    config, ring = context.config, context.ring
    train = config.train
    said = ReaderHeartbeat()
    ranks = _join(context, said)
    ring.heartbeat(f"building the model {model_name(train.model)}")
    device_lock = context.device_lock(str(ranks.device))
    model_config = read_model_config(Path(train.model)) if is_model_file(train.model) else None
    model, tokenizer = _build_model(config, model_config, ranks.device)
    checkpoint = _common_checkpoint(ranks, config, context.run_dir)
    if checkpoint is not None:
        logging.info("continuing from %s", checkpoint.folder)
        if checkpoint.meta.get("model_config") != model_config:
            raise UserError(
                f"{train.model} is not the model config that {checkpoint.folder} was trained with: restore it"
            )
        load_model_state(model, checkpoint.model, checkpoint.folder)
    ddp = wrap_in_ddp(model, ranks.device) if ranks.world_size > 1 else None
    optimizer = build_optimizer(model, train)
    if checkpoint is not None:
        optimizer.load_state_dict(checkpoint.training["optimizer"])
    average = _build_average(model, train, checkpoint) if train.ema_decay and ranks.is_leader else None
    if train.compile:
        compile_towers(model)
    curriculum = curriculum_of(config)
    max_age = config.curriculum.leftover_age
    leftover = LeftoverQueue(ring, ring.spec.groups, max_age) if max_age and ranks.is_leader else None
    reader = _build_reader(context, ranks, curriculum, tokenizer, leftover, _other_sides(context, ranks), said)
    batches = Prefetcher(
        reader,
        said,
        heartbeat=ring.heartbeat,
        ahead=lambda step: train.prefetch and not checkpoint_due(train, step),
        while_waiting=lambda: _yield_idle_device(device_lock, ranks.device),
    )
    if checkpoint is not None:
        batches.reset(checkpoint.training["data"])
    return Trainer(
        context,
        ranks,
        device_lock,
        model,
        model_config,
        ddp,
        optimizer,
        average,
        curriculum,
        batches,
        first_step=0 if checkpoint is None else checkpoint.meta["step"],
        resumed=checkpoint is not None,
    )


def checkpoint_due(train: TrainConfig, steps_done: int) -> bool:
    """Return whether a checkpoint is saved after so many steps, besides the first and the final one."""
    return steps_done % train.checkpoint_every == 0 and steps_done < train.steps


def yield_device(device_lock: DeviceLock, device: torch.device) -> None:
    """Let other processes use the training device, when the step under way has ended.

    The memory of activations is freed; model, optimizer and batches stay.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    device_lock.release()


def _yield_idle_device(device_lock: DeviceLock, device: torch.device) -> None:
    """Let other processes use the training device while this one waits for a batch."""
    if device_lock.idle_while_contested():
        yield_device(device_lock, device)


def _join(context: RoleContext, said: ReaderHeartbeat) -> RankGroup:
    """Choose this rank's device, log both, and join the other ranks."""
    config = context.config
    world_size = config.train.ranks * config.launch.nodes
    rank, local_rank = rank_from_environment(world_size)
    device = training_device(config.train.device, local_rank)
    logging.info(
        "rank %d of %d: %s, autocast %s", rank, world_size, device, autocast_dtype(config.train.precision, device)
    )
    prefer_plain_attention(device)
    return join_ranks(config, device, context.ring.heartbeat, said)


def _build_model(
    config: RunConfig, model_config: dict[str, Any] | None, device: torch.device
) -> tuple[ClipModel, Tokenizer]:
    model, tokenizer = initial_clip(config.train, config.seed, device, model_config)
    if config.train.accum_freq > 1:
        check_micro_batching(model, config.train)
    return model, tokenizer


def _common_checkpoint(ranks: RankGroup, config: RunConfig, run_dir: Path) -> Checkpoint | None:
    """Read the newest checkpoint that every node has, and remove later ones of this node; None: training begins.

    Raises:
        UserError: this node has no checkpoint of the step that another one has to continue from.
    """
    newest_step, newest = last_checkpoint(run_dir) or (0, None)
    step = ranks.agree_on_step(config, newest_step)
    folder = RunFolder(run_dir).checkpoint(step)
    if folder.is_dir():
        if ranks.is_leader:
            discard_after(run_dir, step)
        return load_checkpoint(folder)
    if step:
        raise UserError(
            f"another node continues from step {step}, but the newest checkpoint here is {newest} and {folder} does "
            "not exist: raise train.keep_checkpoints, or remove the checkpoints of all nodes to begin again"
        )
    return None


def _build_average(model: ClipModel, train: TrainConfig, checkpoint: Checkpoint | None) -> AveragedModel:
    # Buffers too: the statistics of batch norms belong to the weights they were computed with.
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.ema_decay), use_buffers=True)
    if checkpoint is not None and (step := checkpoint.meta["step"]):
        load_model_state(average.module, read_model_state(checkpoint.folder, averaged=True), checkpoint.folder)
        average.n_averaged.fill_(step)  # 0 means that the average begins with the next step
    return average


def _other_sides(context: RoleContext, ranks: RankGroup) -> OtherSides | None:
    """Return what keeps the texts still to be shown, on the rank that draws for a curriculum of co-occurrence."""
    config, ring = context.config, context.ring
    if config.curriculum.kind != "co_occurrence" or ring.spec.mode != "throughput" or not ranks.is_leader:
        return None
    return OtherSides(ring, config.seed, config.train.batch, most_pinned(ring.spec))


def _build_reader(
    context: RoleContext,
    ranks: RankGroup,
    curriculum: Curriculum,
    tokenizer: Tokenizer,
    leftover: LeftoverQueue | None,
    other_sides: OtherSides | None,
    said: ReaderHeartbeat,
) -> RingReader:
    config, ring = context.config, context.ring
    images = most_texts(config.train.batch, config.train.ranks) * images_per_text(config)
    replayed = ring.spec.mode == "replay" and ranks.is_leader
    return RingReader(
        ring,
        curriculum,
        tokenizer,
        build_staging(ranks.device, images, ring.spec.image_shape),
        ranks.device,
        steps=config.train.steps,
        timeout_s=config.ring.draw_timeout_s,
        stop=lambda: context.stopping,
        local_rank=ranks.local_rank,
        local_world_size=ranks.local_world_size,
        nodes=config.launch.nodes,
        step_barrier=ranks.step_barrier,
        leftover=leftover,
        other_sides=other_sides,
        replay_schedule=ReplaySchedule(context.run_folder.replay_schedule) if replayed else None,
        heartbeat=said,
    )
