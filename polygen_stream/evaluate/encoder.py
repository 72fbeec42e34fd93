"""One CLIP in inference mode: a checkpoint of ours, or any open_clip model with its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor

from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.evaluate.metrics import class_features
from polygen_stream.evaluate.weights import load_weights
from polygen_stream.train.augment import preprocess
from polygen_stream.train.model import ClipModel, Tokenizer, create_clip, image_size, load_clip, open_clip_name

BATCH = 256
Transform = Callable[[Image.Image], Tensor]
BIG_VISION = (".npz", ".npy")  # weights of SigLIP as its authors published them, which open_clip reads


class Encoder:
    """Pictures and texts to L2-normalised float32 features on the CPU.

    Attributes:
        transform: PIL picture to float32 [3, size, size], as the model's own evaluation transform does it.
    """

    def __init__(
        self,
        model: ClipModel,
        tokenizer: Tokenizer,
        device: str = "cpu",
        transform: Transform | None = None,
    ) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.size = image_size(model)
        self._ours = transform is None  # then arrays can skip PIL: `preprocess` is what the model was trained with
        ours = image_transform(self.size, is_train=False, interpolation="bilinear")
        self.transform = transform or cast(Transform, ours)  # open_clip declares what it may give for training too

    def images(self, images: np.ndarray) -> Tensor:
        """Features [n, d] of square pictures uint8 [n, side, side, 3]."""
        if not self._ours:
            return self.pictures(Image.fromarray(image) for image in images)
        parts = (preprocess(p.to(self.device), self.size) for p in torch.from_numpy(images).split(BATCH))
        return self._encode(self.model.encode_image, parts)

    def pictures(self, pictures: Iterable[Image.Image]) -> Tensor:
        """Features [n, d] of n >= 1 PIL pictures of any size and mode, taken one after the other."""
        tensors = (self.transform(picture.convert("RGB")) for picture in pictures)
        return self.batches(_stacked(tensors))

    def batches(self, batches: Iterable[Tensor]) -> Tensor:
        """Features [n, d] of batches of transformed pictures, float32 [b, 3, size, size]."""
        return self._encode(self.model.encode_image, (batch.to(self.device) for batch in batches))

    def tokens(self, texts: list[str]) -> Tensor:
        """What the model sees of n texts: int64 [n, context length]."""
        return self.tokenizer(texts)

    def cut(self, texts: list[str]) -> Tensor:
        """Whether each text is longer than the model's context: bool [n]."""
        tokens = self.tokenizer(texts)
        length = tokens.shape[1]
        # Every tokenizer of open_clip takes a context length; one more token shows what was cut off.
        longer = cast(Any, self.tokenizer)(texts, context_length=length + 1)
        return (longer[:, :length] != tokens).any(1)

    def texts(self, texts: list[str]) -> Tensor:
        """Features [n, d] of n texts."""
        parts = self.tokenizer(texts).to(self.device).split(BATCH)
        return self._encode(self.model.encode_text, parts)

    def classes(self, prompts: list[list[str]]) -> Tensor:
        """Features [c, d] of c classes, each from an ensemble of its own prompts."""
        flat = self.texts([p for group in prompts for p in group])
        return torch.stack([class_features(part) for part in flat.split([len(group) for group in prompts])])

    @torch.inference_mode()
    def _encode(self, encode: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
        return torch.cat([F.normalize(encode(batch), dim=-1).float().cpu() for batch in batches])


def load_encoder(name: str, pretrained: str | None = None, device: str = "cpu") -> Encoder:
    """The encoder that a user names.

    Args:
        name: a checkpoint folder, a run folder (its last checkpoint), or with `pretrained` an open_clip model.
        pretrained: a weights file of that model, or a tag of open_clip's, which it downloads.
        device: where it computes.

    Raises:
        UserError: no such checkpoint or model, or a file that is truncated, or not weights of this model.
    """
    if pretrained is not None:
        return _load_pretrained(name, pretrained, device)
    folder = resolve_checkpoint(name)
    return Encoder(*load_clip(folder, device), device)


def resolve_checkpoint(name: str) -> Path:
    """The checkpoint folder itself, or the last one of a run folder.

    Raises:
        UserError: neither.
    """
    folder = Path(name)
    if folder.is_file():
        raise UserError(
            f"{name} is a file: name a checkpoint folder (checkpoints/step_NNNNNN) or its run folder, or give weights"
            " of another model as `evaluate MODEL --pretrained FILE`, with open_clip's name of the model"
        )
    if not folder.is_dir():
        hint = ": give its weights with --pretrained FILE" if name in open_clip.list_models() else ""
        raise UserError(f"there is no checkpoint or run folder {name}{hint}")
    if RunFolder(folder).checkpoints.is_dir():
        found = list_checkpoints(folder)
        if not found:
            raise UserError(f"{name} has no checkpoint yet")
        return found[-1][1]
    return folder


def _load_pretrained(name: str, pretrained: str, device: str) -> Encoder:
    tags = open_clip.list_pretrained_tags_by_model(name)
    file = Path(pretrained)
    if not file.is_file() and pretrained not in tags:
        known = f", and open_clip has no such tag for {name}: {', '.join(tags) or 'it has none'}"
        raise UserError(f"--pretrained {pretrained} is no file{known}")
    create_clip(name)  # names the nearest model when there is none of this name
    known = open_clip_name(name)
    try:
        if pretrained not in tags and file.suffix not in BIG_VISION:
            model, _, transform = open_clip.create_model_and_transforms(
                known, load_weights=False, pretrained_text=False, device=device
            )
            load_weights(model, file, name)
        else:
            model, _, transform = open_clip.create_model_and_transforms(known, pretrained=pretrained, device=device)
    except UserError:
        raise
    except Exception as problem:  # of the hub, the network, or numpy
        raise UserError(f"cannot use {pretrained} as weights of {name}: {' '.join(str(problem).split())}") from None
    encoding = cast(ClipModel, model.eval())  # open_clip declares it as any torch module
    return Encoder(encoding, open_clip.get_tokenizer(known), device, cast(Transform, transform))


def _stacked(tensors: Iterable[Tensor]) -> Iterable[Tensor]:
    batch: list[Tensor] = []
    for tensor in tensors:
        batch.append(tensor)
        if len(batch) == BATCH:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def describe_model(name: str, pretrained: str | None) -> dict[str, Any]:
    """What was evaluated, for a results file."""
    if pretrained is not None:
        return {"open_clip": name, "pretrained": pretrained}
    return {"checkpoint": str(resolve_checkpoint(name))}
