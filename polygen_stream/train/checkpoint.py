"""Checkpoints: one folder per step, complete or absent.

    checkpoints/step_000200/
        model.safetensors   weights and buffers of the model
        average.safetensors their moving average, if train.ema asks for one
        state.pt            optimizer, random states, curriculum, data reader; loads with weights_only=True
        meta.json           step, final, model, precision, config hash

A folder is written under a name no reader looks for, flushed to disk, and renamed; what a killed trainer
leaves half-written is removed when the next one starts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from polygen_stream.config import RunConfig
from polygen_stream.errors import UserError

MODEL, AVERAGE = "model.safetensors", "average.safetensors"
PARTIAL = ".partial-"  # prefix of folders being written or removed
_NAME = re.compile(r"step_(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory. `training` has the keys optimizer, rng, curriculum and data."""

    meta: dict[str, Any]
    model: dict[str, torch.Tensor]
    training: dict[str, Any]


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step_{step:06d}"


def list_checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete checkpoint, in order of steps."""
    root = run_dir / "checkpoints"
    found = [(_NAME.fullmatch(p.name), p) for p in root.iterdir()] if root.is_dir() else []
    return sorted((int(match[1]), path) for match, path in found if match)


def config_hash(config: RunConfig) -> str:
    """Short hash of the resolved config, to tell whether two checkpoints come from the same settings."""
    return hashlib.blake2b(config.model_dump_json().encode(), digest_size=8).hexdigest()


def save_checkpoint(
    run_dir: Path,
    *,
    step: int,
    final: bool,
    config: RunConfig,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    curriculum: dict[str, Any],
    data: dict[str, Any],
    average: torch.nn.Module | None = None,
) -> Path:
    """Write the checkpoint of `step` (steps done so far) and apply the retention rule.

    A step that has its checkpoint already (a run stopped right after one) only gets its meta.json renewed.
    Kept are the newest `train.keep_checkpoints`, and always step 0 (the untrained model evaluation compares
    with) and the final one.
    """
    folder = checkpoint_folder(run_dir, step)
    meta = {
        "step": step,
        "final": final,
        "model": config.train.model,
        "precision": config.train.precision,
        "config_hash": config_hash(config),
    }
    if folder.is_dir():
        _replace_json(folder / "meta.json", meta)
        return folder
    partial = folder.with_name(PARTIAL + folder.name)
    partial.mkdir(parents=True)
    for file_name, module in ((MODEL, model), (AVERAGE, average)):
        if module is not None:
            # Channels-last weights are not contiguous, which safetensors insists on.
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
            safetensors.torch.save_file(weights, partial / file_name)
    training = {
        "optimizer": optimizer.state_dict(),
        "rng": _rng_state(),
        "curriculum": curriculum,
        "data": data,
    }
    torch.save(training, partial / "state.pt")
    (partial / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    for file in partial.iterdir():
        _flush(file)
    _flush(partial)
    partial.rename(folder)
    _flush(folder.parent)
    _retain(run_dir, config.train.keep_checkpoints)
    return folder


def remove_partial(run_dir: Path) -> None:
    """Remove what an earlier trainer left half-written."""
    for leftover in (run_dir / "checkpoints").glob(PARTIAL + "*"):
        shutil.rmtree(leftover)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a whole checkpoint to the CPU.

    Raises:
        UserError: not a checkpoint, or a file in it is missing, truncated or of another kind.
    """
    meta = read_meta(folder)
    model = read_model_state(folder)
    file = folder / "state.pt"
    try:
        training = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(_damaged(file, "it is missing")) from None
    except Exception as problem:  # torch.load raises whatever its unpickler stumbles over in a damaged file
        raise UserError(_damaged(file, f"{type(problem).__name__} while reading it")) from None
    expected = {"optimizer", "rng", "curriculum", "data"}
    if not isinstance(training, dict) or training.keys() != expected:
        raise UserError(_damaged(file, "it is not the training state of a polygen-stream checkpoint"))
    return Checkpoint(meta, model, training)


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a checkpoint folder.

    Raises:
        UserError: no such file, or not a checkpoint's.
    """
    file = folder / "meta.json"
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is not a checkpoint (no meta.json): name a folder checkpoints/step_NNNNNN") from None
    except ValueError:
        raise UserError(_damaged(file, "it is not JSON")) from None
    if not isinstance(meta, dict) or not {"step", "final", "model"} <= meta.keys():
        raise UserError(_damaged(file, "step, final or model is missing from it"))
    return meta


def read_model_state(folder: Path, *, averaged: bool = False) -> dict[str, torch.Tensor]:
    """Weights and buffers of a checkpoint folder, on the CPU; `averaged`: their moving average where there is one.

    Raises:
        UserError: the file is missing, truncated or not safetensors.
    """
    file = folder / (AVERAGE if averaged and (folder / AVERAGE).exists() else MODEL)
    try:
        return safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise UserError(_damaged(file, "it is missing")) from None
    except SafetensorError as problem:
        raise UserError(_damaged(file, str(problem))) from None


def _damaged(file: Path, why: str) -> str:
    return f"cannot use {file}: {why}; delete {file.parent} and use an older checkpoint beside it"


def _rng_state() -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _retain(run_dir: Path, keep: int) -> None:
    for step, folder in list_checkpoints(run_dir)[:-keep]:
        if step != 0 and not read_meta(folder)["final"]:
            # Renamed first: a reader must never find a checkpoint with half of its files gone.
            doomed = folder.with_name(PARTIAL + folder.name)
            folder.rename(doomed)
            shutil.rmtree(doomed)


def _replace_json(file: Path, value: dict[str, Any]) -> None:
    partial = file.with_name(PARTIAL + file.name)
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    _flush(partial)
    partial.rename(file)
    _flush(file.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
