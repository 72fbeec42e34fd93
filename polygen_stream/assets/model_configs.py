"""CLIP architectures: open_clip's model configs, by name or as a JSON file of one's own. Loads no torch."""

from __future__ import annotations

import importlib.util
import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.home import expand_home
from polygen_stream.base.json_files import read_user_json

SUFFIX = ".json"
_OWN = Path(__file__).resolve().parents[1] / "train" / "model_configs"
_TOWERS = ("vision_cfg", "text_cfg")
_KEYS = ("embed_dim", *_TOWERS)


def is_model_file(model: str) -> bool:
    """Whether a model is given by the path of its config: names never end in .json."""
    return model.endswith(SUFFIX)


def model_name(model: str) -> str:
    """Return what a model is called: its name, or that of its config file without .json."""
    return Path(model).name.removesuffix(SUFFIX) if is_model_file(model) else model


def absolute_model(model: str, folder: Path) -> str:
    """Return a model so that it can be found from any directory: a relative path is one inside `folder`."""
    return os.path.normpath(folder.absolute() / expand_home(model)) if is_model_file(model) else model


def read_model_config(file: Path) -> dict[str, Any]:
    """Read a model config in open_clip's format, also one inside an open_clip_config.json (its "model_cfg").

    Raises:
        UserError: No such file, no JSON object, or a part of a model is missing.
    """
    config = read_user_json(file, "train.model")
    if isinstance(config, dict):
        config = config.get("model_cfg", config)
    missing = [key for key in _KEYS if not isinstance(config, dict) or key not in config]
    if missing:
        raise UserError(
            f"train.model {file} is not a model config of open_clip: it has no {', '.join(missing)}; a config is "
            f"a JSON object with {', '.join(_KEYS)}"
        )
    for key in _TOWERS:
        if not isinstance(config[key], dict):
            raise UserError(f"train.model {file} is not a model config of open_clip: its {key} is no JSON object")
    return config


def find_model_config(model: str) -> dict[str, Any] | None:
    """Return the config of a model by name or path; None if no config of that name is on this machine.

    Raises:
        UserError: A path without a model config.
    """
    if is_model_file(model):
        return read_model_config(Path(model))
    file = _files().get(model)
    return None if file is None else json.loads(file.read_text(encoding="utf-8"))


def trainable_model_config(model: str) -> dict[str, Any]:
    """Return the config of a model that can be trained here: by name or path, without parts from the model hub.

    Raises:
        UserError: open_clip has no model of this name (the message says the nearest one), a path without a model
            config, or a text tower or tokenizer that would be downloaded.
    """
    config = find_model_config(model)
    if config is None:
        near = get_close_matches(model, _files(), n=1, cutoff=0)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"train.model = {model!r} is not a model open_clip knows{hint} (a model of your own is the path of its "
            "config, e.g. ./my_clip.json)"
        )
    if "hf_model_name" in config["text_cfg"] or "hf_tokenizer_name" in config["text_cfg"]:
        raise UserError(
            f"train.model = {model!r} takes its text tower or tokenizer from the Hugging Face hub; choose a"
            " model with open_clip's own text tower, e.g. 'ViT-B-32'"
        )
    return config


def _files() -> dict[str, Path]:
    package = importlib.util.find_spec("open_clip")
    theirs = [Path(package.origin).parent / "model_configs"] if package and package.origin else []
    return {file.stem: file for folder in (*theirs, _OWN) for file in sorted(folder.glob(f"*{SUFFIX}"))}
