"""Writing and reading what a checkpoint folder holds; checkpoints.py says what that is.

A checkpoint is written in two parts. What training is about to change is copied to the host at once; hashing, writing
and flushing it is the business of a thread, while the next steps run.
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
    list_checkpoints,
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
    """A checkpoint in memory. `training` has the keys optimizer, curriculum and data."""

    meta: dict[str, Any]
    model: dict[str, Tensor]
    training: dict[str, Any]


@dataclass(frozen=True)
class Captured:
    """Everything of a checkpoint, in memory that nobody changes any more: host copies, and the ring's columns.

    Pictures are still in the ring. One that is overwritten before it is stored will be rendered again.
    """

    meta: dict[str, Any]
    weights: dict[str, dict[str, Tensor]]  # by file
    training: dict[str, Any]
    ring: Ring | None
    columns: RingState | None


class CheckpointWriter:
    """Writes the checkpoints of one run, one at a time, in the background. One thread uses it."""

    def __init__(self, run_dir: Path, config: RunConfig) -> None:
        self._run_dir = run_dir
        self._config = config
        self._thread: Thread | None = None
        self._problem: BaseException | None = None

    def save(self, captured: Captured) -> None:
        """Begins to write; first waits for the one before. Raises what became of that one."""
        self.wait()
        self._thread = Thread(target=self._write, args=(captured,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Returns when the last one is on disk.

        Raises:
            UserError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def _write(self, captured: Captured) -> None:
        try:
            write_checkpoint(self._run_dir, captured, self._config)
        except BaseException as problem:  # for whoever waits
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
) -> Captured:
    """Copies what belongs to the checkpoint of `step`, the number of steps done so far.

    model_config: of a model that only a file describes, for whoever reads the checkpoint when the file has gone.
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
    return Captured(meta, weights, training, ring, ring and copy_columns(ring))


def save_checkpoint(run_dir: Path, *, config: RunConfig, **what: Any) -> Path:
    """Captures and writes a checkpoint at once; see capture and write_checkpoint."""
    return write_checkpoint(run_dir, capture(config=config, **what), config)


def write_checkpoint(run_dir: Path, captured: Captured, config: RunConfig) -> Path:
    """Writes a checkpoint, which is there whole or not at all, and applies the retention rule.

    A step that has its checkpoint already (a run stopped right after one) only gets its meta.json renewed.

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
        state = io.BytesIO()  # torch's own writer tells a full disk by an error of its own
        torch.save(captured.training, state)
        (partial / STATE).write_bytes(state.getbuffer())
        if captured.ring is not None:
            pictures = config.train.checkpoint_images
            save_snapshot(captured.ring, partial / RING, pictures, state=captured.columns)
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
        UserError: not a checkpoint, or a file in it is missing, truncated or of another kind.
    """
    meta = read_meta(folder)
    model = read_model_state(folder)
    file = folder / STATE
    try:
        training = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(damaged(file, "it is missing")) from None
    except Exception as problem:  # torch.load raises whatever its unpickler stumbles over in a damaged file
        raise UserError(damaged(file, f"{type(problem).__name__} while reading it")) from None
    expected = {"optimizer", "curriculum", "data"}
    if not isinstance(training, dict) or training.keys() != expected:
        raise UserError(damaged(file, "it is not the training state of a polygen-stream checkpoint"))
    return Checkpoint(meta, model, training)


def read_model_state(folder: Path, *, averaged: bool = False) -> dict[str, torch.Tensor]:
    """Weights and buffers of a checkpoint folder, on the CPU; `averaged`: their moving average where there is one.

    Raises:
        UserError: the file is missing, truncated or not safetensors.
    """
    file = folder / (AVERAGE if averaged and (folder / AVERAGE).exists() else MODEL)
    try:
        return safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise UserError(damaged(file, "it is missing")) from None
    except SafetensorError as problem:
        raise UserError(damaged(file, str(problem))) from None


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The folder that training goes on from, if this is not its beginning."""
    found = list_checkpoints(run_dir)
    return found[-1][1] if found else None


def _to_host(value: Any) -> Any:
    """A copy of nested dicts and lists, its tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_to_host, value))
    return value
