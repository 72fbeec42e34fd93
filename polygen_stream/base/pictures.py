"""Pictures that others made: any file that Pillow reads becomes 8-bit RGB, or an error that names the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import is_lfs_pointer

MAX_PIXELS = 178_956_970  # what Pillow decodes at most
MAX_RATIO = 1000  # of the sides: resized by its shorter side, a longer strip would take gigabytes
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0


def open_picture(source: Path | bytes, named: str, background: str | None = None) -> Image.Image:
    """Decode a picture to mode RGB. Grey values of 16 bits are scaled to 8.

    Args:
        source: The file, or its content.
        named: What to call it in messages.
        background: The colour behind transparent pixels; None: transparency is dropped.

    Raises:
        UserError: There is no such file, it is no picture, it is damaged or too large, or its pixels are numbers of
            which nothing says how bright they are.
    """
    with _opened(source, named) as picture:
        _check_size(picture, named)
        if background is not None and picture.has_transparency_data:
            return _on(background, picture.convert("RGBA"))
        return _rgb(picture, named)


def picture_size(source: Path | bytes, named: str) -> tuple[int, int]:
    """Return the width and height of a picture without decoding it; arguments and errors as `open_picture`'s."""
    with _opened(source, named) as picture:
        return picture.size


@contextmanager
def _opened(source: Path | bytes, named: str) -> Iterator[Image.Image]:
    """Open a picture; every error inside the block becomes a UserError that names it."""
    try:
        # Pillow warns of half of its limit, of odd metadata and of palettes, whatever comes of it.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(source if isinstance(source, Path) else BytesIO(source)) as picture,
        ):
            yield picture
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"there is no picture {named}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{named} has more than {MAX_PIXELS} pixels: scale it down, or remove it") from None
    except UnidentifiedImageError:
        raise UserError(f"cannot read {named} as a picture: {_what_it_is(source)}") from None
    except Exception as problem:  # decoders raise errors of many classes on damaged files
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise UserError(f"cannot read {named} as a picture: {reason}") from None


def _check_size(picture: Image.Image, named: str) -> None:
    short, long = sorted(picture.size)
    if not short or long > MAX_RATIO * short:
        raise UserError(
            f"{named} is {picture.width}x{picture.height} pixels, and no side may be more than {MAX_RATIO} times the"
            " other: crop it, or remove it"
        )


def _rgb(picture: Image.Image, named: str) -> Image.Image:
    if picture.mode.startswith("I;16"):
        tags = getattr(picture, "tag_v2", {})
        white = 2 ** min(16, tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
        grey = _eight_bits(picture, white)
        return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey).convert("RGB")
    if picture.mode == "I" and picture.format in ("PNG", "PPM"):  # Pillow scales what has more than 8 bits to 16
        return Image.fromarray(_eight_bits(picture, 2**16 - 1)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UserError(
            f"{named} has numbers of mode {picture.mode} for pixels, and nothing says which is white: save it with 8"
            " or 16 bits"
        )
    return picture.convert("RGB")


def _on(background: str, picture: Image.Image) -> Image.Image:
    """Lay a picture of mode RGBA on a colour."""
    canvas = Image.new("RGBA", picture.size, background)
    canvas.alpha_composite(picture)
    return canvas.convert("RGB")


def _eight_bits(picture: Image.Image, white: int) -> np.ndarray:
    """Scale grey values 0 to `white` to uint8 [height, width]."""
    values = np.asarray(picture).astype(np.int64).clip(0, white)
    return ((values * 255 + white // 2) // white).astype(np.uint8)


def _what_it_is(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        head = source[:512]
    else:
        with source.open("rb") as stream:
            head = stream.read(512)
    if not head:
        return "it is empty"
    if is_lfs_pointer(head):
        return "it is a pointer of Git LFS, and the picture is not here: run `git lfs pull` where it comes from"
    return "it is in no format that Pillow knows"
