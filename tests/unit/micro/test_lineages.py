"""The micro generators are models of their own: they share no weights and, where stated, no training."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polygen_stream.assets.resources import SHIPPED_WEIGHTS

GENERATORS = ("sd15", "sd2", "sana", "sdxl_turbo")


def test_no_two_parts_have_the_same_weights():
    files = sorted(SHIPPED_WEIGHTS.rglob("*.safetensors"))
    assert len(files) >= 14
    hashes = {file: sha256(file.read_bytes()).hexdigest() for file in files}
    shared = [value for value, times in Counter(hashes.values()).items() if times > 1]
    assert not shared, [str(file) for file, value in hashes.items() if value in shared]


@pytest.mark.parametrize(("first", "second"), list(combinations(GENERATORS, 2)))
def test_autoencoders_are_trained_apart(first: str, second: str):
    assert abs(_correlation(first, second, "vae")) < 0.2


def test_the_denoisers_of_the_stable_diffusion_classes_are_trained_apart():
    for part in ("unet", "text_encoder"):
        assert abs(_correlation("sd15", "sd2", part)) < 0.2, part


def _correlation(first: str, second: str, part: str) -> float:
    """Return the mean correlation of the largest matrices that both parts have in the same shape; 0 without any.

    A model that was trained on from another one's weights keeps a correlation of 0.5 and more with it.
    """
    ours, theirs = (load_file(_weights(SHIPPED_WEIGHTS / name / part)) for name in (first, second))
    found = [
        torch.corrcoef(torch.stack([tensor.float().flatten(), theirs[name].float().flatten()]))[0, 1].item()
        for name, tensor in ours.items()
        if name in theirs and theirs[name].shape == tensor.shape and tensor.dim() > 1 and tensor.numel() >= 1024
    ]
    return sum(found) / len(found) if found else 0.0


def _weights(folder: Path) -> Path:
    [file] = folder.glob("*.safetensors")
    return file
