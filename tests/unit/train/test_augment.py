from __future__ import annotations

import numpy as np
import pytest
import torch

from polygen_stream.train import augment
from polygen_stream.train.augment import MEAN, STD, preprocess


def random_resized_crop(images: torch.Tensor, size: int, **options) -> torch.Tensor:
    return augment.random_resized_crop(images, size, **{"image_ids": torch.arange(len(images))} | options)


def random_downsample(images: torch.Tensor, **options) -> torch.Tensor:
    return augment.random_downsample(images, **{"image_ids": torch.arange(len(images))} | options)


def gradient_image(side: int) -> torch.Tensor:
    """Float [1, 3, side, side]: channel 0 is x, channel 1 is y, both in [-1, 1]; channel 2 is 0."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])[None]


def test_preprocess_uses_open_clips_statistics():
    images = torch.tensor([[[[255, 0, 128]]]], dtype=torch.uint8).expand(2, 8, 8, 3)
    found = preprocess(images, 8)
    expected = (torch.tensor([255, 0, 128]) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand(2, 3, 8, 8))


def test_preprocess_equals_open_clips_own_transform():
    import open_clip
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    transform = open_clip.image_transform(32, is_train=False, mean=MEAN, std=STD)
    found = preprocess(torch.from_numpy(pixels)[None], 32)[0]
    torch.testing.assert_close(found, transform(Image.fromarray(pixels)), rtol=0, atol=1e-6)


def test_preprocess_resizes_and_leaves_the_input_alone():
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    before = images.clone()
    assert preprocess(images, 32).shape == (2, 3, 32, 32)
    assert torch.equal(images, before)


@pytest.mark.parametrize("change", [random_resized_crop, random_downsample])
def test_what_happens_to_a_picture_does_not_depend_on_the_others_or_on_its_place(change):
    images, image_ids = torch.rand(40, 3, 16, 16), torch.arange(40) * 977
    options = {"probability": 0.5} if change is random_downsample else {"size": 16, "scale_min": 0.5}
    whole = change(images, **options, seed=0, step=3, image_ids=image_ids)
    part = torch.randperm(40)[:13]
    assert torch.equal(change(images[part], **options, seed=0, step=3, image_ids=image_ids[part]), whole[part])
    assert not torch.equal(change(images, **options, seed=0, step=3, image_ids=image_ids + 1), whole)


def test_crops_depend_on_seed_and_step_only():
    images = torch.rand(8, 3, 16, 16)

    def crop(seed: int, step: int) -> torch.Tensor:
        return random_resized_crop(images, 16, scale_min=0.5, seed=seed, step=step)

    first = crop(0, 7)
    torch.rand(3)  # the global generator plays no part
    assert torch.equal(crop(0, 7), first)
    assert not torch.equal(crop(0, 8), first)
    assert not torch.equal(crop(1, 7), first)


def test_every_picture_gets_its_own_crop():
    images = torch.rand(1, 3, 16, 16).expand(8, 3, 16, 16)
    crops = random_resized_crop(images, 16, scale_min=0.5, seed=0, step=0)
    assert len({crop.sum().item() for crop in crops}) == 8


def test_whole_picture_is_kept_at_scale_one():
    images = torch.rand(4, 3, 16, 16)
    crops = random_resized_crop(images, 16, scale_min=1.0, seed=0, step=0)
    torch.testing.assert_close(crops, images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale_min", [0.25, 0.5, 0.9])
def test_crops_stay_inside_are_upright_and_keep_the_area(scale_min):
    count, side = 400, 32
    crops = random_resized_crop(gradient_image(side).repeat(count, 1, 1, 1), side, scale_min=scale_min, seed=0, step=0)
    x, y = crops[:, 0], crops[:, 1]
    assert (x.diff(dim=2) >= -1e-5).all() and (y.diff(dim=1) >= -1e-5).all()  # neither mirrored nor turned
    width = (x[:, 0, -1] - x[:, 0, 0]) / 2
    height = (y[:, -1, 0] - y[:, 0, 0]) / 2
    area = width * height * ((side / (side - 1)) ** 2)  # from outermost pixel centres to outermost edges
    slack = 0.12  # half a pixel at each border, and clipped extremes of the aspect
    assert area.min() > scale_min * (1 - slack) - 0.02 and area.max() <= 1 + slack
    assert area.mean() == pytest.approx((1 + scale_min) / 2, abs=0.08)


def test_crop_resizes_to_the_models_input():
    assert random_resized_crop(torch.rand(2, 3, 48, 48), 32, scale_min=0.5, seed=0, step=0).shape == (
        2,
        3,
        32,
        32,
    )


def test_downsampling_takes_the_finest_detail_out_and_leaves_the_rest():
    side, count = 56, 40
    board = (torch.arange(side)[:, None] + torch.arange(side)).remainder(2) * 2.0 - 1  # the highest frequency there is
    slope = gradient_image(side)
    images = (board + slope).repeat(count, 1, 1, 1)
    found = random_downsample(images, probability=1.0, seed=0, step=0)
    inner = (..., slice(4, -4), slice(4, -4))  # borders have fewer neighbours to average
    assert (found - slope)[inner].abs().max() < 0.15
    assert len({picture.sum().item() for picture in found}) == 2  # two sizes to go down to


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_downsampling_happens_as_often_as_asked_and_depends_on_seed_and_step_only(probability):
    images = torch.rand(1000, 3, 8, 8)
    before = images.clone()

    def changed(seed: int, step: int) -> torch.Tensor:
        found = random_downsample(images, probability=probability, seed=seed, step=step)
        return (found != images).flatten(1).any(1)

    assert changed(0, 0).float().mean() == pytest.approx(probability, abs=0.05)
    assert torch.equal(changed(0, 0), changed(0, 0)) and torch.equal(images, before)
    if probability:
        assert not torch.equal(changed(0, 0), changed(0, 1)) and not torch.equal(changed(0, 0), changed(1, 0))
