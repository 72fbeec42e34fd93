"""Fixtures for the tests of evaluation."""

from __future__ import annotations

import pytest
import torch

from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.train.model import create_clip


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """An untrained micro CLIP."""
    torch.manual_seed(0)
    model, tokenizer = create_clip("micro")
    return Encoder(model.eval(), tokenizer)
