"""The CLIP in training: an open_clip model, its tokenizer, and loading it back from a checkpoint.

`micro` is a model config of this package (model_configs/micro.json); any name that open_clip knows works, and so does
the path of a model config in open_clip's format.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import open_clip
import torch
from torch import Tensor

from polygen_stream.assets.model_configs import is_model_file, trainable_model_config
from polygen_stream.base.errors import UserError
from polygen_stream.base.seeding import key
from polygen_stream.config import TrainConfig
from polygen_stream.train import micro_tower  # noqa: F401  # registers the tower that model_configs/micro.json names
from polygen_stream.train.checkpoint import read_meta, read_model_state

MAX_LOGIT_SCALE = math.log(100)  # open_clip's and SynthCLIP's clamp; TripletCLIP has none

# [texts] -> int64 [len(texts), context length]
Tokenizer = Callable[[list[str]], Tensor]

if TYPE_CHECKING:

    class ImageTower(torch.nn.Module):
        """The image tower of an open_clip model, as far as it is used here."""

        image_size: int | tuple[int, int]

    class ClipModel(torch.nn.Module):
        """An open_clip model of any of its classes, as far as it is used here."""

        visual: ImageTower
        text: torch.nn.Module  # of a model whose text tower is a module of its own; others have `transformer`
        transformer: torch.nn.Module
        logit_scale: torch.nn.Parameter  # scalar, its logarithm
        image_image_head: torch.nn.Module  # see add_image_image_head
        output_dict: bool  # whether forward returns a dict, as open_clip's own trainer wants it

        def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
            """Encode images [N, 3, S, S]: [N, D]."""
            ...

        def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
            """Encode tokens [T, context length]: [T, D]."""
            ...

else:
    ClipModel = torch.nn.Module

open_clip.add_model_config(Path(__file__).parent / "model_configs")


def open_clip_name(model: str, config: Mapping[str, Any] | None = None) -> str:
    """Return the name under which open_clip knows a model; a model config is registered with open_clip first.

    Args:
        model: a name, or the path of a model config.
        config: the model config, where it is known: a checkpoint has it, whose file may be gone.

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
) -> tuple[ClipModel, Tokenizer]:
    """Create an open_clip model with random weights in fp32, channels last, and its tokenizer.

    Initial weights come from torch's global generator: seed it before. Nothing is downloaded.

    Args:
        model: a name that open_clip knows, "micro", or the path of a model config.
        device: where the weights go.
        config: the model config, if it is not to be read from `model`.

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
    clip.to(device).to(memory_format=torch.channels_last)
    return cast(ClipModel, clip), open_clip.get_tokenizer(name)  # open_clip declares it as any torch module


def initial_clip(
    train: TrainConfig, seed: int, device: torch.device | str = "cpu", config: Mapping[str, Any] | None = None
) -> tuple[ClipModel, Tokenizer]:
    """Create the model of a run as it is before the first step, and its tokenizer.

    Args:
        train: names the model, and says whether it has a head for the image-image term.
        seed: of the run; the initial weights are a function of it.
        device: where the weights go.
        config: the model config, if it is not to be read from `train.model`.

    Raises:
        UserError: open_clip has no such model, or cannot build it.
    """
    torch.manual_seed(key(seed, "model") >> 1)
    model, tokenizer = create_clip(train.model, device, config)
    if train.image_image_head:
        add_image_image_head(model, train.model, train.image_image_head)
    return model, tokenizer


def add_image_image_head(model: ClipModel, name: str, width: int) -> None:
    """Add a projection head for the image-image term, `model.image_image_head`, which is trained with the model.

    Three layers as StableRep's (google-research/syn-rep-learn:StableRep/models), but on the normalised image
    embedding, because open_clip's towers do not expose the features before it, and with layer norms in place of batch
    norms, whose statistics would depend on how a batch is divided into ranks and micro-batches: our reading. Evaluation
    does not use the head.

    Args:
        model: created from `name`.
        name: a name that open_clip knows, or the path of a model config.
        width: of every layer of the head.
    """
    layers: list[torch.nn.Module] = []
    for inputs in (trainable_model_config(name)["embed_dim"], width):
        layers += [torch.nn.Linear(inputs, width), torch.nn.LayerNorm(width), torch.nn.ReLU()]
    layers.append(torch.nn.Linear(width, width))
    model.image_image_head = torch.nn.Sequential(*layers).to(model.logit_scale.device)


def compile_towers(model: ClipModel) -> None:
    """Apply torch.compile to both towers, in place, so that weights keep their names. Compiles in the first step."""
    model.visual.compile()
    # The parts of open_clip's own text tower are parts of the model itself: its transformer is what computes.
    (model.text if hasattr(model, "text") else model.transformer).compile()


def image_size(model: ClipModel) -> int:
    """Return the side of the image tower's square input, in pixels."""
    size = model.visual.image_size
    return size[0] if isinstance(size, tuple) else size


def clamp_logit_scale(model: ClipModel) -> None:
    """Keep the temperature between 1 and 1/100, as open_clip's trainer does after every step."""
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def load_clip(checkpoint: Path, device: torch.device | str = "cpu") -> tuple[ClipModel, Tokenizer]:
    """Load the model of a checkpoint folder in eval mode, and its tokenizer. Needs no config, ring or run.

    Its weights are the averaged ones where the run kept an average.

    Args:
        checkpoint: the folder.
        device: where the weights go.

    Raises:
        UserError: the folder is no checkpoint, or its weights are damaged or of another model.
    """
    meta = read_meta(checkpoint)
    model, tokenizer = create_clip(meta["model"], device, meta.get("model_config"))
    state = read_model_state(checkpoint, averaged=True)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("image_image_head.")}
    load_model_state(model, state, checkpoint)
    return model.eval(), tokenizer


def load_model_state(model: torch.nn.Module, state: dict[str, Tensor], checkpoint: Path) -> None:
    """Load a state dict whose names and shapes have to be those of the model.

    Args:
        model: what to load into.
        state: weights and buffers.
        checkpoint: where they are from, for the message.

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
