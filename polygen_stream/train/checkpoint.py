"""Writing and reading checkpoints; checkpoints.py describes their folders.

A checkpoint is saved in two parts. What training is about to change is copied to the host at once; a thread hashes,
writes and flushes it while the next steps run.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from polygen_stream.assets.model_configs import model_name
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import PARTIAL, flush
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import (
    RING,
    config_hash,
    damaged,
    describe_files,
    read_meta,
    retain,
    write_meta,
)
from polygen_stream.config import RunConfig
from polygen_stream.ring import Ring
from polygen_stream.ring.snapshot import copy_columns, save_snapshot
from polygen_stream.ring.state import RingState

MODEL, AVERAGE, STATE = "model.safetensors", "average.safetensors", "state.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read from its folder.

    Args:
        folder: where it was read from.
        meta: its meta.json.
        model: weights and buffers, on the CPU.
        training: state of the optimizer, curriculum and data, by these names.
    """

    folder: Path
    meta: dict[str, Any]
    model: dict[str, Tensor]
    training: dict[str, Any]


@dataclass(frozen=True)
class CapturedCheckpoint:
    """The content of a checkpoint that is not written yet: host copies that do not change any more.

    Images are still in the ring. One that is overwritten before it is stored will be rendered again.

    Args:
        meta: of meta.json.
        weights: state dicts by file name.
        training: state of the optimizer, curriculum and data, by these names.
        ring: the ring that has the images; None leaves it out of the checkpoint.
        columns: a copy of the ring's columns.
    """

    meta: dict[str, Any]
    weights: dict[str, dict[str, Tensor]]
    training: dict[str, Any]
    ring: Ring | None
    columns: RingState | None


class CheckpointWriter:
    """Writes the checkpoints of one run, one at a time, in the background. Not to be shared between threads."""

    def __init__(self, run_dir: Path, config: RunConfig) -> None:
        self._run_dir = run_dir
        self._config = config
        self._thread: Thread | None = None
        self._problem: BaseException | None = None

    def save(self, captured: CapturedCheckpoint) -> None:
        """Wait for the previous checkpoint, then begin to write this one.

        Raises:
            UserError: the previous one could not be written.
        """
        self.wait()
        self._thread = Thread(target=self._write, args=(captured,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            UserError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def _write(self, captured: CapturedCheckpoint) -> None:
        try:
            write_checkpoint(self._run_dir, captured, self._config)
        except BaseException as problem:  # raised by wait(), in the thread that trains
            self._problem = problem


def capture(
    *,
    step: int,
    final: bool,
    config: RunConfig,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    curriculum: dict[str, Any],
    data: dict[str, Any],
    average: torch.nn.Module | None = None,
    ring: Ring | None = None,
    model_config: dict[str, Any] | None = None,
) -> CapturedCheckpoint:
    """Copy to the host what a checkpoint holds.

    Args:
        step: number of steps done so far.
        final: whether training ends here.
        config: of the run.
        model: the model, in whatever precision it is trained.
        optimizer: of its parameters.
        curriculum: state dict of the curriculum.
        data: state dict of the reader.
        average: the model's moving average, if the run keeps one.
        ring: the ring, if it is to be stored too.
        model_config: of a model that only a file describes; the checkpoint can be read when the file is gone.
    """
    meta = {
        "step": step,
        "final": final,
        "model": model_name(config.train.model),
        "precision": config.train.precision,
        "config_hash": config_hash(config),
    } | ({"model_config": model_config} if model_config else {})
    modules = {MODEL: model, AVERAGE: average}
    weights = {
        # Channels-last weights are not contiguous, which safetensors insists on.
        file: {name: _to_host(tensor).contiguous() for name, tensor in module.state_dict().items()}
        for file, module in modules.items()
        if module is not None
    }
    training = {"optimizer": _to_host(optimizer.state_dict()), "curriculum": curriculum, "data": data}
    return CapturedCheckpoint(meta, weights, training, ring, ring and copy_columns(ring))


def save_checkpoint(run_dir: Path, *, config: RunConfig, **what: Any) -> Path:
    """Capture and write a checkpoint at once; see capture and write_checkpoint."""
    return write_checkpoint(run_dir, capture(config=config, **what), config)


def write_checkpoint(run_dir: Path, captured: CapturedCheckpoint, config: RunConfig) -> Path:
    """Write a checkpoint atomically, apply the retention rule, and return the folder.

    Where the step has a checkpoint already (a run that was stopped right after one), only meta.json is rewritten.

    Args:
        run_dir: the run folder.
        captured: the content.
        config: of the run.

    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    step = captured.meta["step"]
    folder = RunFolder(run_dir).checkpoint(step)
    partial = folder.with_name(PARTIAL + folder.name)
    try:
        if folder.is_dir():
            write_meta(folder, read_meta(folder) | captured.meta)
            return folder
        partial.mkdir(parents=True)
        for name, tensors in captured.weights.items():
            safetensors.torch.save_file(tensors, partial / name)
        state = io.BytesIO()  # torch's own file writer reports a full disk by an error that says something else
        torch.save(captured.training, state)
        (partial / STATE).write_bytes(state.getbuffer())
        if captured.ring is not None:
            images = config.train.checkpoint_images and not captured.ring.spec.storage  # a file outlives the run
            save_snapshot(captured.ring, partial / RING, images, state=captured.columns)
        for file in partial.iterdir():
            flush(file)
        write_meta(partial, captured.meta | {"files": describe_files(partial)})
        partial.rename(folder)
        flush(folder.parent)
        retain(run_dir, config.train.keep_checkpoints)
    except (OSError, SafetensorError, UserError) as problem:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"cannot write the checkpoint of step {step} into {folder.parent}: {problem}; free some space there and "
            f"continue with `polygen-stream run --resume {run_dir}`"
        ) from problem
    return folder


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a whole checkpoint to the CPU.

    Raises:
        UserError: the folder is no checkpoint, or a file in it is missing, truncated or of another kind.
    """
    meta = read_meta(folder)
    model = read_model_state(folder)
    file = folder / STATE
    try:
        training = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(damaged(file, "it is missing")) from None
    except Exception as problem:  # in a damaged file torch.load's unpickler may raise anything
        raise UserError(damaged(file, f"{type(problem).__name__} while reading it")) from None
    expected = {"optimizer", "curriculum", "data"}
    if not isinstance(training, dict) or training.keys() != expected:
        raise UserError(damaged(file, "it is not the training state of a polygen-stream checkpoint"))
    return Checkpoint(folder, meta, model, training)


def read_model_state(folder: Path, *, averaged: bool = False) -> dict[str, torch.Tensor]:
    """Read the weights and buffers of a checkpoint folder, to the CPU.

    Args:
        folder: of the checkpoint.
        averaged: read their moving average, where the checkpoint has one.

    Raises:
        UserError: the file is missing, truncated or not safetensors.
    """
    file = folder / (AVERAGE if averaged and (folder / AVERAGE).exists() else MODEL)
    try:
        return safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise UserError(damaged(file, "it is missing")) from None
    except (OSError, SafetensorError) as problem:
        raise UserError(damaged(file, str(problem))) from None


def _to_host(value: Any) -> Any:
    """Copy nested dicts and lists, with their tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_to_host, value))
    return value
