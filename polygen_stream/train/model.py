"""The CLIP under training: an open_clip model, its tokenizer, and loading it back from a checkpoint.

`micro` is a model config of this package (model_configs/micro.json); any name that open_clip knows will do, and so will
the path of a model config in open_clip's format.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch

from polygen_stream.assets.model_configs import is_model_file, trainable_model_config
from polygen_stream.base.errors import UserError
from polygen_stream.train import micro_tower  # noqa: F401  # registers the tower that model_configs/micro.json names
from polygen_stream.train.checkpoint import read_meta, read_model_state

MAX_LOGIT_SCALE = math.log(100)  # open_clip's and SynthCLIP's clamp; TripletCLIP has none

# [texts] -> int64 [len(texts), context length]
Tokenizer = Callable[[list[str]], torch.Tensor]

open_clip.add_model_config(Path(__file__).parent / "model_configs")


def open_clip_name(model: str, config: Mapping[str, Any] | None = None) -> str:
    """Return the name under which open_clip knows a model, which it has been told of if it did not.

    Args:
        model: A name, or the path of a model config.
        config: The model config, where it is known: as a checkpoint holds it, whose path may have gone.

    Raises:
        UserError: open_clip has no model of this name, the path has no model config, or the model needs the hub.
    """
    if config is None:
        config = trainable_model_config(model)
        if not is_model_file(model):
            return model
    text = json.dumps(config, sort_keys=True)
    # By content: a file may be called like a model of open_clip, and names with "siglip" choose another tokenizer.
    name = f"config-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if name not in open_clip.list_models():
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.json"
            file.write_text(text, encoding="utf-8")
            open_clip.add_model_config(file)
    return name


def create_clip(
    model: str, device: torch.device | str = "cpu", config: Mapping[str, Any] | None = None
) -> tuple[torch.nn.Module, Tokenizer]:
    """Create a freshly initialised open_clip model in fp32, channels last, and its tokenizer.

    Initial weights come from torch's global generator: seed it before. Nothing is downloaded.

    Args:
        model: A name that open_clip knows, "micro", or the path of a model config.
        device: Where the model is.
        config: The model config, if it is not to be read from `model`.

    Raises:
        UserError: open_clip has no model of this name, or cannot build one from this config.
    """
    name = open_clip_name(model, config)
    if name == model:
        clip = open_clip.create_model(name, load_weights=False)
    else:
        try:
            clip = open_clip.create_model(name, load_weights=False)
        except Exception as problem:  # a wrong config fails wherever open_clip first uses what is wrong
            raise UserError(
                f"train.model = {model!r}: open_clip cannot build this model: {type(problem).__name__}: {problem}"
            ) from None
    clip = clip.to(device=device, memory_format=torch.channels_last)
    return clip, open_clip.get_tokenizer(name)


def add_image_image_head(model: torch.nn.Module, name: str, width: int) -> None:
    """Give a model a head for the image-image term alone, `model.image_image_head`, which is trained along.

    Three layers as StableRep's (google-research/syn-rep-learn:StableRep/models), but on the normalised image
    embedding, because open_clip's towers show no features before it, and with layer norms for its batch norms, whose
    statistics would depend on how a batch is cut into ranks and micro-batches: our reading. Evaluation never needs it.
    """
    layers: list[torch.nn.Module] = []
    for inputs in (trainable_model_config(name)["embed_dim"], width):
        layers += [torch.nn.Linear(inputs, width), torch.nn.LayerNorm(width), torch.nn.ReLU()]
    layers.append(torch.nn.Linear(width, width))
    model.image_image_head = torch.nn.Sequential(*layers).to(model.logit_scale.device)


def compile_towers(model: torch.nn.Module) -> None:
    """Have torch.compile work on both towers from the first step on; in place, so that weights keep their names."""
    model.visual.compile()
    # open_clip's own text tower lies in the model itself: its transformer is what computes.
    (model.text if hasattr(model, "text") else model.transformer).compile()


def image_size(model: torch.nn.Module) -> int:
    """Side of the square input of the image tower, in pixels."""
    size = model.visual.image_size
    return size[0] if isinstance(size, tuple) else size


def clamp_logit_scale(model: torch.nn.Module) -> None:
    """Keep the temperature between 1 and 1/100, as open_clip's own loop does after every step."""
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def load_clip(checkpoint: Path, device: torch.device | str = "cpu") -> tuple[torch.nn.Module, Tokenizer]:
    """The model of a checkpoint folder in eval mode, and its tokenizer. Needs no config, ring or run.

    Its weights are the averaged ones where the run kept an average.

    Raises:
        UserError: the folder is no checkpoint, or its weights are damaged or of another model.
    """
    meta = read_meta(checkpoint)
    model, tokenizer = create_clip(meta["model"], device, meta.get("model_config"))
    state = read_model_state(checkpoint, averaged=True)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("image_image_head.")}
    load_model_state(model, state, checkpoint)
    return model.eval(), tokenizer


def load_model_state(model: torch.nn.Module, state: dict[str, torch.Tensor], checkpoint: Path) -> None:
    """Strict load; a disagreement names the checkpoint and the first tensor that differs.

    Raises:
        UserError: a tensor is missing, unknown or of another shape.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(own.keys() | found.keys()):
        if own.get(name) != found.get(name):
            raise UserError(
                f"{checkpoint} does not fit the model it is loaded into: {name} is {found.get(name)} in the"
                f" checkpoint, {own.get(name)} in the model: use the config the checkpoint was trained with"
            )
    model.load_state_dict(state)
