"""Saves micro models: a reader never sees an incomplete folder, and no path of the training machine is stored."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polygen_stream.micro.training.card import CARD


class _Saveable(Protocol):
    def save_pretrained(self, folder: Path, /) -> object: ...


def save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Save a pipeline as a diffusers folder with weights in fp16. The card of a previous version stays."""
    _replace([copy.deepcopy(pipeline).to(dtype=torch.float16)], folder)


def save_language_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a language model as a transformers folder with weights in bf16. The card of a previous version stays."""
    half: Any = copy.deepcopy(model)  # Any: a decorator hides the signature of `to`
    _replace([half.to(torch.bfloat16), tokenizer], folder)


def _replace(parts: Sequence[_Saveable], folder: Path) -> None:
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    for part in parts:
        part.save_pretrained(temporary)
    for file in temporary.rglob("*.json"):
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if folder.exists():
        if (folder / CARD).exists():
            shutil.copy(folder / CARD, temporary / CARD)
        shutil.rmtree(folder)
    temporary.rename(folder)
