"""What a step measures of its images, against the definition image by image."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from polygen_stream.train.forward import ClipOutput
from polygen_stream.train.image_measures import measure_images
from polygen_stream.train.text_image_index import TextImageIndex

PLAIN, PAIRS, IMAGES = 3, 2, 2  # texts without a twin, pairs, images of each text
TEXTS = PLAIN + 2 * PAIRS


def index(caption: torch.Tensor | None = None) -> TextImageIndex:
    """Texts in the order of a batch: T+ alone, T+ of the pairs, T- of the pairs."""
    negative = torch.arange(TEXTS) >= TEXTS - PAIRS
    return TextImageIndex.from_tensors(torch.arange(TEXTS).repeat_interleave(IMAGES), negative, caption)


def features(seed: int = 0) -> ClipOutput:
    random = torch.Generator().manual_seed(seed)
    images, texts = (normalize(torch.randn(n, 8, generator=random), dim=-1) for n in (TEXTS * IMAGES, TEXTS))
    return ClipOutput(images, texts, torch.tensor(7.0), None)


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_measures_are_those_of_the_definition(chunk):
    output, of = features(), index()
    loss, correct, margin = measure_images(output, of, chunk)
    for image, text in enumerate(of.image_text.tolist()):
        similarity = output.text_features @ output.image_features[image]
        assert loss[image] == pytest.approx(float(cross_entropy(7.0 * similarity, torch.tensor(text))), abs=1e-5)
        assert bool(correct[image]) == (int(similarity.argmax()) == text)
        if text < PLAIN:
            assert margin[image].isnan()
        else:
            other = text + PAIRS if text < PLAIN + PAIRS else text - PAIRS
            assert margin[image] == pytest.approx(float(similarity[text] - similarity[other]), abs=1e-6)


def test_a_text_of_the_same_words_is_no_candidate():
    caption = torch.arange(TEXTS)
    caption[1] = caption[0]
    output = features()
    texts = output.text_features.clone()
    texts[1] = texts[0]
    without = measure_images(output._replace(text_features=texts), index(caption))
    loss, correct, _ = without
    rest = [text for text in range(TEXTS) if text != 1]
    for image in range(IMAGES):
        similarity = 7.0 * texts[rest] @ output.image_features[image]
        assert loss[image] == pytest.approx(float(cross_entropy(similarity, torch.tensor(0))), abs=1e-5)
        assert bool(correct[image]) == (int(similarity.argmax()) == 0)


def test_nothing_is_learned_from_measuring():
    output = features()
    output = output._replace(image_features=output.image_features.requires_grad_())
    assert not measure_images(output, index()).requires_grad


def test_half_precision_features_are_measured_in_single():
    output = features()
    half = output._replace(
        image_features=output.image_features.bfloat16(), text_features=output.text_features.bfloat16()
    )
    measured = measure_images(half, index())
    assert measured.dtype == torch.float32
    assert torch.allclose(measured[0], measure_images(output, index())[0], atol=0.1)


def test_a_batch_without_pairs_has_no_margin():
    plain = TextImageIndex.from_tensors(torch.arange(3), torch.zeros(3, dtype=torch.bool))
    output = features()
    few = output._replace(image_features=output.image_features[:3], text_features=output.text_features[:3])
    assert measure_images(few, plain)[2].isnan().all()
