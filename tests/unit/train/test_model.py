from __future__ import annotations

import math

import pytest
import torch

from polygen_stream.base.errors import UserError
from polygen_stream.train.model import clamp_logit_scale, create_clip, image_size


def test_micro_model_embeds_ring_images_and_captions_on_the_unit_sphere():
    model, tokenizer = create_clip("micro")
    assert image_size(model) == 32
    images = model.eval().encode_image(torch.rand(3, 3, 32, 32), normalize=True)
    texts = model.encode_text(tokenizer(["a red key", "two small blue boats"]), normalize=True)
    assert images.shape[1] == texts.shape[1]
    torch.testing.assert_close(images.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))


def test_tokenizer_tells_captions_apart_by_word_order():
    _, tokenizer = create_clip("micro")
    a, b = tokenizer(["a red cup left of a blue key", "a blue cup left of a red key"])
    assert a.shape == (32,) and not torch.equal(a, b) and torch.equal(a.sort().values, b.sort().values)


def test_same_seed_gives_the_same_untrained_model():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(create_clip("micro")[0].state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_logit_scale_is_held_between_one_and_a_hundred():
    model, _ = create_clip("micro")
    for value, expected in [(9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)]:
        model.logit_scale.data.fill_(value)
        clamp_logit_scale(model)
        assert model.logit_scale.item() == pytest.approx(expected)


def test_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"train\.model = 'ViT-B-33'.*did you mean 'ViT-B-32'"):
        create_clip("ViT-B-33")


def test_model_that_needs_the_hub_is_refused():
    with pytest.raises(UserError, match="Hugging Face hub"):
        create_clip("roberta-ViT-B-32")
