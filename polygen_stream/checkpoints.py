"""Checkpoint folders from the outside: which there are, and whether one can be used. Needs no torch.

    checkpoints/step_000200/
        model.safetensors   weights and buffers of the model
        average.safetensors their moving average, if train.ema_decay asks for one
        state.pt            optimizer, curriculum, data reader; loads with weights_only=True
        ring.safetensors    the ring at that step
        meta.json           step, final, model, precision, config hash, size and checksum of every other file

A folder is written under a name no reader looks for, flushed to disk, and renamed: it is complete or absent. What a
killed trainer leaves half-written is removed when the next one starts; what the disk did to a complete one is found by
the checksums.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from polygen_stream.assets.model_configs import model_name
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import PARTIAL
from polygen_stream.base.json_files import write_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig

RING = "ring.safetensors"
META = "meta.json"
UNUSABLE = "unusable-"  # prefix of folders that were found damaged, for their owner to look at
_NAME = re.compile(r"step_(\d{6,})")
_KINDS = {"step": int, "final": bool, "model": str, "model_config": dict, "files": dict}  # of what meta.json holds


def list_checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of every complete checkpoint, in order of steps."""
    root = RunFolder(run_dir).checkpoints
    found = [(_NAME.fullmatch(p.name), p) for p in root.iterdir()] if root.is_dir() else []
    return sorted((int(match[1]), path) for match, path in found if match)


def last_checkpoint(run_dir: Path) -> tuple[int, Path] | None:
    """Return step and folder of the newest checkpoint; None without any."""
    return max(list_checkpoints(run_dir), default=None)


def config_hash(config: RunConfig) -> str:
    """Return a short hash of what decides a run's training: checkpoints with the same one have the same settings.

    How a run is named, launched and evaluated may change when it is resumed.
    """
    # Generators and model by name, so that their files may be moved.
    generators = config.generators.model_copy(update={"recipes": config.generators.names})
    train = config.train.model_copy(update={"model": model_name(config.train.model)})
    # Defaults apart, so that a key that a later release adds does not make every checkpoint another run's.
    located = config.model_copy(update={"generators": generators, "train": train})
    decisive = located.model_dump_json(exclude={"name", "evaluate", "launch"}, exclude_defaults=True)
    return hashlib.blake2b(decisive.encode(), digest_size=8).hexdigest()


def read_meta(folder: Path) -> dict[str, Any]:
    """Return meta.json of a checkpoint folder.

    Raises:
        UserError: no such file, or not a checkpoint's.
    """
    file = folder / META
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is not a checkpoint (no meta.json): name a folder checkpoints/step_NNNNNN") from None
    except OSError as problem:
        raise UserError(damaged(file, problem.strerror or "it cannot be read")) from None
    except (ValueError, RecursionError):
        raise UserError(damaged(file, "it is not JSON")) from None
    if not isinstance(meta, dict) or not {"step", "final", "model"} <= meta.keys():
        raise UserError(damaged(file, "step, final or model is missing from it"))
    wrong = [name for name, kind in _KINDS.items() if type(meta.get(name, kind())) is not kind]
    if wrong or meta["step"] < 0:
        name = wrong[0] if wrong else "step"
        raise UserError(damaged(file, f"{name} is {meta[name]!r} in it"))
    return meta


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Replace meta.json: readers see the old one or the new one."""
    write_json(folder / META, meta, indent=1, durable=True)


def check(folder: Path, config: RunConfig) -> None:
    """Compare a checkpoint with its own checksums, its name and the run it lies in.

    Raises:
        UserError: it is damaged, incomplete, or another run's.
    """
    meta = read_meta(folder)
    ours = config_hash(config)
    if meta.get("config_hash") != ours:
        raise UserError(f"it is another run's: config hash {meta.get('config_hash')}, this run's is {ours}")
    if RunFolder(folder.parents[1]).checkpoint(meta["step"]) != folder:
        raise UserError(f"it is another step's: its meta.json says step {meta['step']}")
    for name, expected in meta.get("files", {}).items():
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            raise UserError(f"{name} is missing") from None
        if size != expected["bytes"]:
            raise UserError(f"{name} is truncated: {size} of {expected['bytes']} bytes")
        if checksum(folder / name) != expected["blake2b"]:
            raise UserError(f"{name} is damaged: it has another checksum than when it was written")


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and checksum of every file of a folder, as meta.json has them."""
    return {file.name: {"bytes": file.stat().st_size, "blake2b": checksum(file)} for file in sorted(folder.iterdir())}


def checksum(file: Path) -> str:
    """Return the checksum of a file: BLAKE2b, 16 bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def remove_partial(run_dir: Path) -> None:
    """Remove what an earlier trainer left half-written."""
    for leftover in RunFolder(run_dir).checkpoints.glob(PARTIAL + "*"):
        shutil.rmtree(leftover)


def retain(run_dir: Path, keep: int) -> None:
    """Remove all but the newest `keep`, step 0 (the untrained model evaluation compares with) and final ones."""
    for step, folder in list_checkpoints(run_dir)[:-keep]:
        if step != 0 and not read_meta(folder)["final"]:
            # Renamed first: a reader must never find a checkpoint with half of its files gone.
            doomed = folder.with_name(PARTIAL + folder.name)
            folder.rename(doomed)
            shutil.rmtree(doomed)


def discard_after(run_dir: Path, step: int) -> None:
    """Remove the checkpoints of later steps: training goes on from this one."""
    for later, folder in list_checkpoints(run_dir):
        if later > step:
            doomed = folder.with_name(PARTIAL + folder.name)
            folder.rename(doomed)
            shutil.rmtree(doomed)


def damaged(file: Path, why: str) -> str:
    """Return what to tell of a file of a checkpoint that cannot be used."""
    return f"cannot use {file}: {why}; delete {file.parent} and use an older checkpoint beside it"
