"""A picture's checksum tells every change that a torn or misplaced write can make."""

from __future__ import annotations

import numpy as np
import pytest

from polygen_stream.ring.checksum import checksums, write_images

SHAPES = [(32, 32, 3), (5, 7, 3), (1, 1, 3)]  # with and without bytes left over after the last 8-byte word


def random_pictures(count: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_change_of_any_byte_shows(shape):
    [picture] = random_pictures(1, shape)
    changed = np.repeat(picture[None], picture.size, axis=0)
    flat = changed.reshape(picture.size, picture.size)
    flat[np.arange(picture.size), np.arange(picture.size)] ^= 0x80
    assert checksums(picture[None])[0] not in checksums(changed)


def test_parts_that_changed_places_show():
    [picture] = random_pictures(1, (32, 32, 3))
    moved = np.stack([np.roll(picture, rows, axis=0) for rows in range(32)])
    assert len(set(checksums(moved).tolist())) == 32


def test_a_picture_torn_between_two_shows():
    old, new = random_pictures(2, (32, 32, 3))
    torn = np.stack([np.concatenate([new[:row], old[row:]]) for row in range(33)])
    assert len(set(checksums(torn).tolist())) == 33


@pytest.mark.parametrize("shape", SHAPES)
def test_it_does_not_depend_on_the_neighbours(shape):
    pictures = random_pictures(9, shape)
    assert checksums(pictures).tolist() == [checksums(picture[None])[0] for picture in pictures]


@pytest.mark.parametrize("shape", [*SHAPES, (320, 320, 3)])  # the last one is more than a block by itself
def test_pictures_written_have_the_checksums_of_what_then_lies_there(shape):
    pictures = random_pictures(5, shape)
    payload, slots = np.zeros((9, *shape), np.uint8), np.array([7, 0, 3, 4, 8])
    sums = write_images(payload, slots, pictures)
    assert np.array_equal(payload[slots], pictures)
    assert sums.tolist() == checksums(payload[slots]).tolist()
    assert not payload[[1, 2, 5, 6]].any()
