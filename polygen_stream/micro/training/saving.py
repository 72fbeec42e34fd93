"""Saves a micro model so that a reader never sees half of it, and nothing of the machine it was trained on."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polygen_stream.micro.training.card import CARD


def save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> None:
    """A diffusers folder, weights in fp16."""
    _replace([copy.deepcopy(pipeline).to(dtype=torch.float16)], folder)


def save_language_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A transformers folder, weights in bf16."""
    _replace([copy.deepcopy(model).to(torch.bfloat16), tokenizer], folder)


def _replace(parts: Sequence[object], folder: Path) -> None:
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
