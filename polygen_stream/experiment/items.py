"""Which test items every run got right: a safetensors file beside the result table.

Per task one tensor, uint8 [runs, bytes], whose rows are the packed bits of a bool array; the metadata name the runs and
the shape of that array. A run is named by what tells its row of the table from others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically

Correct = dict[str, np.ndarray]  # task -> bool [items] or [draws, items]


def items_path(table: Path) -> Path:
    """Return the file that belongs to a result table: NAME-items.safetensors beside NAME.csv."""
    return table.with_name(f"{table.stem}-items.safetensors")


def write_items(runs: Mapping[str, Correct], file: Path) -> None:
    """Write the file in one piece.

    Args:
        runs: the arrays of each run, by the run's name; all runs have the same tasks and shapes.
        file: where it goes.
    """
    shapes = {task: list(right.shape) for right_of in runs.values() for task, right in right_of.items()}
    packed = {task: np.stack([np.packbits(correct[task]) for correct in runs.values()]) for task in shapes}
    content = {"runs": list(runs), "shapes": shapes}
    write_atomically(file, save(packed, metadata={"content": json.dumps(content)}))


def read_items(file: Path) -> dict[str, Correct]:
    """Read the arrays of all runs, by the run's name; none if there is no file.

    Raises:
        UserError: the file is damaged.
    """
    if not file.exists():
        return {}
    try:
        with safe_open(file, framework="numpy") as stored:
            content = json.loads((stored.metadata() or {})["content"])
            arrays = {
                task: _unpacked(stored.get_tensor(task), (len(content["runs"]), *shape))
                for task, shape in content["shapes"].items()
            }
        return {run: {task: array[row] for task, array in arrays.items()} for row, run in enumerate(content["runs"])}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as problem:
        raise UserError(f"{file} is damaged ({problem}): remove it, and its runs are done again") from None


def _unpacked(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    flat = np.unpackbits(packed, axis=1, count=math.prod(shape[1:]))
    return flat.astype(bool).reshape(shape)
