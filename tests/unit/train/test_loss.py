"""The image-text loss against the losses it must reduce to; test_loss_reference.py has the formulas as loops."""

from __future__ import annotations

import pytest
import torch
from open_clip.loss import ClipLoss

from polygen_stream.train.loss import multi_positive_loss
from polygen_stream.train.text_image_index import TextImageIndex

MODES = ("same_polarity", "none", "all")


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def index_of(images_per_text: list[int], negatives: int) -> TextImageIndex:
    """Texts in order, the last `negatives` of them T-; text b has images_per_text[b] images."""
    texts = len(images_per_text)
    image_text = torch.repeat_interleave(torch.arange(texts), torch.tensor(images_per_text))
    return TextImageIndex.from_tensors(image_text, torch.arange(texts) >= texts - negatives)


def case(images_per_text: list[int], negatives: int, dim: int = 6):
    index = index_of(images_per_text, negatives)
    images = unit(len(index.image_text), dim, seed=1).requires_grad_()
    texts = unit(len(images_per_text), dim, seed=2).requires_grad_()
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    return images, texts, scale, index


def test_one_image_per_caption_without_negatives_is_open_clips_loss():
    images, texts, scale, index = case([1] * 7, negatives=0)
    loss, _ = multi_positive_loss(images, texts, scale, index)
    torch.testing.assert_close(loss, ClipLoss()(images, texts, scale), rtol=0, atol=1e-12)


def negclip(x, y, z, s):
    """TripletCLIP's half: images x, own texts y, the other set's texts z."""
    own = torch.arange(len(x))
    i2t = torch.nn.functional.cross_entropy(s * x @ torch.cat([y, z]).T, own)
    return (i2t + torch.nn.functional.cross_entropy(s * y @ x.T, own)) / 2


def test_one_image_per_caption_and_all_negatives_is_tripletclips_sum():
    images, texts, scale, index = case([1] * 10, negatives=5)
    loss, _ = multi_positive_loss(images, texts, scale, index, hn_t2i="same_polarity")
    (x, x_neg), (y, y_neg) = images.split(5), texts.split(5)
    expected = negclip(x, y, y_neg, scale) + negclip(x_neg, y_neg, y, scale)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("negatives", [0, 2, 5])
def test_negclip_is_tripletclips_half_over_the_positive_images(negatives):
    images, texts, scale, index = case([1] * 10, negatives=negatives)
    loss, parts = multi_positive_loss(images, texts, scale, index, objective="negclip")
    x, y, z = images[: 10 - negatives], texts[: 10 - negatives], texts[10 - negatives :]
    torch.testing.assert_close(loss, negclip(x, y, z, scale), rtol=0, atol=1e-12)
    assert set(parts) == {"i2t", "t2i"}


@pytest.mark.parametrize("negatives", [0, 2, 5])
def test_infonce_is_open_clips_loss_over_everything(negatives):
    images, texts, scale, index = case([1] * 10, negatives=negatives)
    loss, _ = multi_positive_loss(images, texts, scale, index, objective="infonce")
    torch.testing.assert_close(loss, ClipLoss()(images, texts, scale), rtol=0, atol=1e-12)


def test_all_candidates_and_all_negatives_is_twice_open_clips_loss_over_both_sets():
    images, texts, scale, index = case([1] * 10, negatives=5)
    loss, _ = multi_positive_loss(images, texts, scale, index, hn_t2i="all")
    torch.testing.assert_close(loss, 2 * ClipLoss()(images, texts, scale), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hn_t2i", MODES)
def test_order_of_images_and_texts_does_not_matter(hn_t2i):
    images, texts, scale, index = case([3, 1, 4, 2, 2], negatives=2)
    options = dict(hn_t2i=hn_t2i, image_image_weight=0.5)
    expected, _ = multi_positive_loss(images, texts, scale, index, **options)
    generator = torch.Generator().manual_seed(3)
    by_image = torch.randperm(len(images), generator=generator)
    by_text = torch.randperm(len(texts), generator=generator)
    shuffled = TextImageIndex.from_tensors(by_text.argsort()[index.image_text[by_image]], index.text_negative[by_text])
    found, _ = multi_positive_loss(images[by_image], texts[by_text], scale, shuffled, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_without_negatives_every_mode_gives_the_same_bits():
    images, texts, scale, index = case([4, 2, 4, 3], negatives=0)
    images, texts, scale = (x.detach().float() for x in (images, texts, scale))
    results = []
    for mode in MODES:
        features = images.clone().requires_grad_()
        loss, parts = multi_positive_loss(features, texts, scale, index, hn_t2i=mode)
        loss.backward()
        results.append((loss.detach(), features.grad))
        assert set(parts) == {"i2t", "t2i"}
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0]) and torch.equal(gradient, results[0][1])


def text_row_gradient(hn_t2i: str) -> torch.Tensor:
    """The gradient that negative images get from text rows: all of it less that of their image rows."""
    images, texts, scale, index = (x if isinstance(x, TextImageIndex) else x.detach() for x in case([2, 2, 2, 2], 2))
    images.requires_grad_()
    loss, _ = multi_positive_loss(images, texts, scale, index, hn_t2i=hn_t2i)
    image_rows = torch.nn.functional.cross_entropy(scale * images @ texts.T, index.image_text, reduction="none")
    i2t = image_rows[:4].mean() / 2 + image_rows[4:].mean() / 2
    return torch.autograd.grad(loss - i2t, images)[0][4:]


def test_a_positive_text_never_touches_negative_images_under_same_polarity():
    """Move I- anywhere: the image term of T+ may not notice."""
    images, texts, scale, index = case([2, 2, 2, 2], negatives=2)
    elsewhere = torch.cat([images.detach()[:4], unit(4, 6, seed=9)])
    _, here = multi_positive_loss(images, texts, scale, index, hn_t2i="same_polarity")
    _, there = multi_positive_loss(elsewhere, texts, scale, index, hn_t2i="same_polarity")
    assert torch.equal(here["t2i"], there["t2i"])
    _, mixed_here = multi_positive_loss(images, texts, scale, index, hn_t2i="all")
    _, mixed_there = multi_positive_loss(elsewhere, texts, scale, index, hn_t2i="all")
    assert not torch.equal(mixed_here["t2i"], mixed_there["t2i"])


def test_none_leaves_negative_images_without_any_text_row():
    assert text_row_gradient("none").abs().max() < 1e-15
    assert text_row_gradient("same_polarity").abs().max() > 1e-3


def test_negatives_weigh_as_much_as_their_share_of_texts():
    images, texts, scale, index = case([2, 2, 2, 2, 2], negatives=1)
    loss, parts = multi_positive_loss(images, texts, scale, index)
    expected = (parts["i2t"] + parts["t2i"]) / 2 + (parts["negative_i2t"] + parts["negative_t2i"]) / 2 / 4
    torch.testing.assert_close(loss.detach(), expected)


def test_bf16_features_are_compared_in_fp32():
    images, texts, scale, index = case([2, 2, 2], negatives=1)
    low = (images.detach().bfloat16(), texts.detach().bfloat16(), scale.detach().bfloat16())
    loss, _ = multi_positive_loss(*low, index)
    assert loss.dtype == torch.float32
    exact, _ = multi_positive_loss(*(x.double() for x in low), index)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


def test_a_text_without_an_image_is_refused():
    with pytest.raises(AssertionError, match="without an image"):
        TextImageIndex.from_tensors(torch.tensor([0, 0]), torch.tensor([False, False]))
