"""Images for a page: the grid of captions by generators, and the nearest neighbours of texts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.report.gallery import Gallery
from polygen_stream.report.generator_plots import short

ROWS = 12
SIDE = 192  # pixels; larger images are scaled down to it
NEIGHBOURS = 6


@dataclass(frozen=True)
class Tile:
    """An image on the page.

    Attributes:
        image: data URI.
        alt: text for readers that cannot see the image.
        note: text below the image.
    """

    image: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class CaptionGridRow:
    """The images of a caption, and those of its hard negative, in the order of generators."""

    caption: str
    negative: str | None
    positives: list[Tile]
    negatives: list[Tile]


@dataclass(frozen=True)
class Neighbours:
    """The images nearest to a text, the nearest first."""

    text: str
    tiles: list[Tile]


def caption_grid(gallery: Gallery, most: int = ROWS) -> list[CaptionGridRow]:
    """Return up to `most` rows, evenly over the gallery."""
    chosen = np.unique(np.linspace(0, len(gallery.samples) - 1, most).round().astype(int))
    rows = []
    for sample in (gallery.samples[i] for i in chosen):
        halves = (("", sample.caption, sample.positives), ("negative, ", sample.negative, sample.negatives))
        tiles = [
            [
                _tile(image, f"{sign}{short(gallery.generators[g])}: {text}", short(gallery.generators[g]))
                for g, image in half
            ]
            for sign, text, half in halves
        ]
        rows.append(CaptionGridRow(sample.caption, sample.negative, *tiles))
    return rows


def neighbours(gallery: Gallery, encoder: Encoder, texts: Sequence[str]) -> list[Neighbours]:
    """Return for each text the NEIGHBOURS most similar images of the gallery, with their cosine and generator."""
    images, about = gallery.positives()
    similarity = (encoder.texts(list(texts)) @ encoder.images(images).T).numpy()  # [texts, images]
    found = []
    for text, row in zip(texts, similarity, strict=True):
        best = np.argsort(-row)[:NEIGHBOURS]
        tiles = [
            _tile(images[i], f"{short(about[i][0])}: {about[i][1]}", f"{row[i]:.2f} {short(about[i][0])}") for i in best
        ]
        found.append(Neighbours(text, tiles))
    return found


def _tile(image: np.ndarray, alt: str, note: str) -> Tile:
    """Small images exactly, as PNG; larger ones at most SIDE wide, as JPEG."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if picture.width > SIDE:
        picture = picture.resize((SIDE, SIDE * picture.height // picture.width), Image.Resampling.LANCZOS)
    kind = "jpeg" if picture.width > 64 else "png"
    picture.save(buffer, kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return Tile(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", alt, note)
