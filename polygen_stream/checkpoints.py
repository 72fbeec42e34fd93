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

from polygen_stream.base.errors import Damaged, UserError
from polygen_stream.base.files import PARTIAL
from polygen_stream.base.json_files import write_json
from polygen_stream.base.records import is_count, is_text
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig, fixed_settings

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
    """Return a short hash of the keys that stay as they are when a run is resumed, in all of its checkpoints."""
    # Defaults apart, so that a key that a later release adds does not make every checkpoint another run's.
    default = fixed_settings(RunConfig())
    decisive = {name: value for name, value in fixed_settings(config).items() if value != default[name]}
    return hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=8).hexdigest()


def read_meta(folder: Path) -> dict[str, Any]:
    """Return meta.json of a checkpoint folder.

    Raises:
        Damaged: no such file, or not a checkpoint's.
    """
    file = folder / META
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{folder} is not a checkpoint (no meta.json): name a folder checkpoints/step_NNNNNN") from None
    except OSError as problem:
        raise Damaged(damaged(file, problem.strerror or "it cannot be read")) from None
    except (ValueError, RecursionError):
        raise Damaged(damaged(file, "it is not JSON")) from None
    if not isinstance(meta, dict) or not {"step", "final", "model"} <= meta.keys():
        raise Damaged(damaged(file, "step, final or model is missing from it"))
    wrong = [name for name, kind in _KINDS.items() if type(meta.get(name, kind())) is not kind]
    if wrong or not is_count(meta["step"]):
        name = wrong[0] if wrong else "step"
        raise Damaged(damaged(file, f"{name} is {str(meta[name])[:50]!r} in it"))
    if others := [name for name, of in meta.get("files", {}).items() if not _is_description(name, of)]:
        raise Damaged(damaged(file, f"size and checksum of {others[0][:50]!r} are missing from it"))
    return meta


def _is_description(name: str, found: object) -> bool:
    """Whether meta.json has a name of a file in the folder, with its size and checksum."""
    plain = name.isprintable() and "/" not in name and len(name.encode(errors="replace")) < 256
    return plain and isinstance(found, dict) and is_count(found.get("bytes")) and is_text(found.get("blake2b"))


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Replace meta.json: readers see the old one or the new one."""
    write_json(folder / META, meta, indent=1)


def check(folder: Path, config: RunConfig) -> None:
    """Compare a checkpoint with its own checksums, its name and the run it lies in.

    Raises:
        Damaged: it is damaged or incomplete.
        UserError: it is another run's.
    """
    meta = read_meta(folder)
    ours = config_hash(config)
    if meta.get("config_hash") != ours:
        raise UserError(
            f"checkpoint {folder} is another run's or another release's: config hash {meta.get('config_hash')}, this "
            f"run's is {ours}; put the run's own checkpoint back, or begin anew with another --run-dir"
        )
    if RunFolder(folder.parents[1]).checkpoint(meta["step"]) != folder:
        raise Damaged(f"it is another step's: its meta.json says step {meta['step']}")
    for name, expected in meta.get("files", {}).items():
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        if size != expected["bytes"]:
            raise Damaged(f"{name} is truncated: {size} of {expected['bytes']} bytes")
        if checksum(folder / name) != expected["blake2b"]:
            raise Damaged(f"{name} is damaged: it has another checksum than when it was written")


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
