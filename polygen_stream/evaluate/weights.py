"""Weights files of others: what open_clip's trainer, torch and safetensors write, read without running code.

What a file is follows from its content, not from its name.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import CLIP, convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from torch import Tensor

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import is_lfs_pointer

WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a file: safetensors, or a state dict of torch, alone or in a trainer's checkpoint.

    Names are those of the model itself, without those of DistributedDataParallel and torch.compile.

    Raises:
        UserError: It cannot be read, is something else, or would run code.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
        found = _load(file, head)
    except UserError:
        raise
    except OSError as problem:
        raise UserError(f"cannot use {file}: {problem.strerror or _one_line(problem)}") from None
    except pickle.UnpicklingError as problem:  # torch's message advises to allow it
        needed = re.search(r"GLOBAL ([\w.]+)", str(problem))
        what = f"it needs {needed[1]}, which could run code" if needed else "it is neither torch's nor safetensors"
        raise UserError(f"cannot use {file}: {what}; save a state dict of tensors, best as safetensors") from None
    except Exception as problem:  # in a damaged file, safetensors and the unpickler may raise anything
        raise UserError(f"cannot use {file}: it is damaged ({_one_line(problem)})") from None
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(_is_weight(*item) for item in found.items()):
        raise UserError(f"cannot use {file}: it holds no state dict (names with a tensor each), alone or as state_dict")
    return _unwrapped(dict(found))


def load_weights(model: torch.nn.Module, file: Path, name: str) -> None:
    """Load weights into a model of open_clip, converted as open_clip converts them.

    The bias of the SigLIP loss is left out where the model has none: features do not depend on it.

    Args:
        model: what to load into.
        file: the weights.
        name: what the user called the model, for messages.

    Raises:
        UserError: the file cannot be read, or is of another model.
    """
    state = read_weights(file)
    try:
        state = convert_state_dict(cast(CLIP, model), state)  # or another class of open_clip's
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        own: dict[str, Tensor] = model.state_dict()
        for scalar in ("logit_scale", "logit_bias"):  # of shape [] in some, [1] in others
            if scalar in state and scalar in own:
                state[scalar] = state[scalar].reshape(own[scalar].shape)
            elif scalar == "logit_bias":
                state.pop(scalar, None)
                state.update({scalar: torch.zeros_like(own[scalar])} if scalar in own else {})
        positions = "text.transformer.embeddings.position_ids"  # that transformers once stored
        if positions not in own:
            state.pop(positions, None)
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
        model.load_state_dict(state)
    except Exception as problem:  # each of these raises its own
        raise UserError(f"cannot use {file} as weights of {name}: {_one_line(problem)}") from None


def _load(file: Path, head: bytes) -> Any:
    if not head:
        raise UserError(f"cannot use {file}: it is empty")
    if is_lfs_pointer(head):
        raise UserError(
            f"cannot use {file}: it is a pointer of Git LFS, and the weights are not here: run `git lfs pull` where it"
            " comes from"
        )
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise UserError(f"cannot use {file}: it is a web page, not weights: download it again")
    if len(head) > 8 and struct.unpack("<Q", head[:8])[0] < file.stat().st_size and head[8:9] == b"{":
        return safetensors.torch.load_file(file)
    if file.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80")):
        raise UserError(f"cannot use {file}: it is no safetensors, or cut short")
    try:
        with file.open("rb") as stream, warnings.catch_warnings(action="ignore"):  # it warns of what it then refuses
            return torch.load(stream, map_location="cpu", weights_only=True)
    except RuntimeError as problem:
        if "TorchScript" in str(problem):
            raise UserError(
                f"cannot use {file}: it is TorchScript, which is code: save the state dict of its model"
            ) from None
        raise


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((each for each in WRAPPERS if all(name.startswith(each) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name.replace("._orig_mod.", "."): tensor for name, tensor in state.items()}  # a part that was compiled


def _one_line(problem: Exception) -> str:
    """Return one line of an error that may have hundreds, as load_state_dict's has."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()] or [type(problem).__name__]
    first = lines[0] if len(lines) == 1 else f"{lines[0]} {lines[1]}"
    return first if len(first) <= 300 else first[:297] + "..."
