"""Parameters of CLIP models."""

from __future__ import annotations

import pytest

from polygen_stream.capacity.model_size import model_size


@pytest.mark.parametrize(("model", "millions"), [("ViT-B-32", 151.3), ("ViT-B-16", 149.6), ("ViT-L-14", 427.6)])
def test_towers_have_the_published_numbers_of_parameters(model, millions):
    assert model_size(model).parameters / 1e6 == pytest.approx(millions, rel=0.01)


def test_a_model_of_another_kind_is_unknown_rather_than_guessed():
    assert model_size("RN50") is None and model_size("micro") is None
