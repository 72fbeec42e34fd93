"""Pictures that others made: what is read, how bright it is, and what is said of the rest."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.base.pictures import open_picture

GREY = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_look_like_eight(tmp_path, kind):
    file = tmp_path / "x"
    file.write_bytes(encoded(Image.fromarray(GREY.astype(np.uint16) * 257), kind))
    assert (np.asarray(open_picture(file, "x")) == GREY[..., None]).all()


def test_a_tiff_may_have_twelve_bits_and_zero_for_white():
    values = np.array([[0, 4095, 2048, 0]], np.uint16)
    packed = b"".join(struct.pack(">I", int(a) << 12 | int(b))[1:] for a, b in values.reshape(-1, 2))
    entries = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 0), (277, 1), (278, 1), (279, len(packed))]
    start = 8 + 2 + 12 * len(entries) + 4
    table = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in entries)
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + packed
    assert np.asarray(open_picture(data, "x"))[0, :, 0].tolist() == [0, 255, 128, 0]
    inverted = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF", tiffinfo={262: 0})
    assert (np.asarray(open_picture(inverted, "x")) == 255 - GREY[..., None]).all()


def test_a_background_shows_where_a_picture_is_transparent():
    picture = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 51, 255)):
        picture.putpixel((x, 0), (255, 0, 0, alpha))
    seen = np.asarray(open_picture(encoded(picture, "PNG"), "x", background="white"))[0]
    assert seen.tolist() == [[255, 255, 255], [255, 204, 204], [255, 0, 0]]
    grey = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG")
    assert (np.asarray(open_picture(grey, "x", background="white")) == GREY[..., None]).all(), "nothing shows through"


@pytest.mark.parametrize("values", [GREY.astype(np.float32) / 255, GREY.astype(np.int32)])
def test_numbers_without_a_white_are_refused(values):
    with pytest.raises(UserError, match=r"x has numbers of mode . for pixels, and nothing says which is white"):
        open_picture(encoded(Image.fromarray(values), "TIFF"), "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot read x as a picture: it is empty"),
        (b"no picture", "cannot read x as a picture: it is in no format that Pillow knows"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "x as a picture: it is a pointer of Git"),
        (encoded(Image.new("1", (20000, 10000)), "PNG"), "x has more than 178956970 pixels"),
        (encoded(Image.new("L", (1, 1001)), "PNG"), "x is 1x1001 pixels, and no side may be more than 1000 times"),
        (encoded(Image.fromarray(GREY), "PNG")[:-30], "cannot read x as a picture: "),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_one_line(data, message):
    with pytest.raises(UserError, match=message) as problem:
        open_picture(data, "x")
    assert "\n" not in str(problem.value)


def test_a_large_picture_is_read_without_a_warning(recwarn):
    assert open_picture(encoded(Image.new("1", (10000, 9000)), "PNG"), "x").size == (10000, 9000)
    assert not recwarn.list


SEEDS = [
    encoded(Image.fromarray(GREY), kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA")
] + [encoded(Image.fromarray(GREY.astype(np.uint16)), "PNG")]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6), st.booleans()
)
def test_any_bytes_are_a_picture_or_a_user_error(seed, changes, mend):
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    if mend and seed.startswith(b"\x89PNG"):  # so that what was changed is looked at
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    try:
        assert open_picture(bytes(data), "x").mode == "RGB"
    except UserError as problem:
        assert "\n" not in str(problem)
