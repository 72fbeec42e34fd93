"""Which files a model's folder lacks, by its own index: of a diffusers pipeline, of a language model. Loads nothing."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

DAMAGED = "a whole"  # "a whole model_index.json is missing"


def missing_of_pipeline(folder: Path, without: Collection[str] = ()) -> str | None:
    """Return a file or folder that a pipeline lacks: parts are named by its index, their files by theirs.

    Args:
        folder: The pipeline's, with a model_index.json.
        without: Parts that are not loaded.

    Returns:
        Its name inside the folder, or None if nothing is missing.
    """
    parts = _object(folder / "model_index.json")
    if parts is None:
        return f"{DAMAGED} model_index.json"
    for part, what in parts.items():
        if part.startswith("_") or part in without or not isinstance(what, list) or not what or what[0] is None:
            continue
        inside = folder / part
        if not inside.is_dir() or not any(inside.iterdir()):
            return part
        if (inside / "config.json").is_file() and (absent := _missing_weights(inside)):
            return f"{part}/{absent}"
    return None


def missing_of_language_model(folder: Path) -> str | None:
    """Return a file that a language model lacks, or None."""
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            return name
    return _missing_weights(folder)


def _missing_weights(folder: Path) -> str | None:
    """Return a weight file that is not there; those in several pieces have an index that names them."""
    for index in folder.glob("*.index*.json"):
        weights = (_object(index) or {}).get("weight_map")
        if not isinstance(weights, dict):
            return f"{DAMAGED} {index.name}"
        names = set(map(str, weights.values()))
        absent = [name for name in sorted(names) if not (folder / name).is_file()]
        if not absent:
            return None
        if names & {path.name for path in folder.iterdir()}:
            return absent[0]
    return None if any(folder.glob("*.safetensors")) else "*.safetensors"


def _object(file: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if there is none."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
