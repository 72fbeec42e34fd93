"""The painter: draws a scene as a 32x32 image, a different one for every seed.

Its images are the real images of the micro world: the micro generators are trained on them and CLIP is evaluated on
them. CLIP is never trained on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from polygen_stream.micro.silhouettes import SILHOUETTES, Points
from polygen_stream.micro.world import Scene, Thing

SIZE = 32
_OVERSAMPLING = 5  # images are drawn this many times larger and reduced by averaging

RGB = {
    "red": (214, 38, 38), "orange": (245, 138, 24), "yellow": (246, 222, 52), "green": (36, 150, 54),
    "blue": (40, 74, 214), "purple": (132, 48, 176), "pink": (246, 138, 190), "white": (246, 246, 246),
    "black": (24, 24, 26),
}  # fmt: skip
GROUND = {  # background -> its upper and its lower colour
    "meadow": ((166, 214, 240), (126, 190, 96)), "beach": ((140, 206, 230), (232, 212, 156)),
    "snow": ((196, 210, 226), (228, 234, 240)), "sea": ((150, 200, 230), (52, 128, 160)),
    "wall": ((150, 96, 80), (150, 96, 80)), "desert": ((240, 200, 150), (204, 150, 92)),
}  # fmt: skip


def paint(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint a scene.

    Args:
        scene: what to show.
        rng: random generator for position, shape, pose, tint and noise.

    Returns:
        The image, uint8 [32, 32, 3].
    """
    width = SIZE * _OVERSAMPLING
    canvas = _background(scene.background, width, rng)
    for thing, (x, y, radius) in zip(_instances(scene), _layout(scene, rng), strict=True):
        _draw_thing(canvas, thing, x * width, y * width, radius * width, rng)
    _weather(canvas, scene.weather, rng)
    pixels = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    if scene.lighting == "night":
        pixels = pixels * np.array([0.48, 0.50, 0.66], np.float32) + np.array([0, 2, 18], np.float32)
    pixels = pixels * rng.uniform(0.94, 1.06) + rng.normal(0, 1.5, pixels.shape)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _instances(scene: Scene) -> list[Thing]:
    return list(scene.things) if scene.is_pair else [scene.things[0]] * scene.count


def _layout(scene: Scene, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Return centre x, centre y and radius of every thing, as shares of the image's width."""
    if scene.is_pair:
        apart, across = rng.uniform(0.225, 0.255), rng.uniform(-0.08, 0.08, 2)
        sign = -1 if scene.relation in ("left of", "above") else 1
        radii = rng.uniform(0.195, 0.23, 2)
        along = (0.5 + sign * apart, 0.5 - sign * apart)
        if scene.relation in ("left of", "right of"):
            return [(along[i], 0.5 + across[i], radii[i]) for i in range(2)]
        return [(0.5 + across[i], along[i], radii[i]) for i in range(2)]
    if scene.count > 1:
        radius = {2: 0.2, 3: 0.155}[scene.count] * rng.uniform(0.95, 1.08)
        step = 0.98 / scene.count
        return [
            (0.5 + step * (i - (scene.count - 1) / 2), 0.5 + rng.uniform(-0.14, 0.14), radius)
            for i in range(scene.count)
        ]
    radius = {"small": 0.18, "medium": 0.27, "big": 0.40}[scene.things[0].size] * rng.uniform(0.93, 1.07)
    slack = min(0.06, 0.48 - radius) if radius < 0.48 else 0.0
    x, y = 0.5 + rng.uniform(-slack, slack), 0.5 + rng.uniform(-slack, slack)
    edge = radius + 0.03
    match scene.position:
        case "left":
            x = edge
        case "right":
            x = 1 - edge
        case "top":
            y = edge
        case "bottom":
            y = 1 - edge
    return [(x, y, radius)]


@dataclass(frozen=True)
class _Ground:
    """A background with its two colours, to which details are added."""

    draw: ImageDraw.ImageDraw
    width: int  # pixels
    horizon: int  # pixels from the top
    upper: tuple[int, ...]
    lower: tuple[int, ...]


def _background(name: str, width: int, rng: np.random.Generator) -> Image.Image:
    upper, lower = (_jitter(c, rng, 8) for c in GROUND[name])
    canvas = Image.new("RGB", (width, width), upper)
    draw = ImageDraw.Draw(canvas)
    horizon = int(width * rng.uniform(0.42, 0.6))
    draw.rectangle([0, horizon, width, width], fill=lower)
    _DETAILS[name](_Ground(draw, width, horizon, upper, lower), rng)
    return canvas


def _bricks(ground: _Ground, rng: np.random.Generator) -> None:
    draw, width = ground.draw, ground.width
    brick, mortar = width // 5, tuple(min(255, c + 32) for c in ground.upper)
    shift = int(rng.integers(brick))
    for row, y in enumerate(range(-shift, width, brick)):
        draw.line([0, y, width, y], fill=mortar, width=4)
        for x in range(-shift + (brick if row % 2 else 0), width, brick * 2):
            draw.line([x, y, x, y + brick], fill=mortar, width=4)


def _waves(ground: _Ground, rng: np.random.Generator) -> None:
    width = ground.width
    crest = tuple(min(255, c + 50) for c in ground.lower)
    for y in range(ground.horizon + width // 14, width, width // 7):
        phase = rng.uniform(0, 6.28)
        points = [(x, y + 4 * math.sin(x / 11 + phase)) for x in range(0, width, 4)]
        ground.draw.line(points, fill=crest, width=4)


def _grass(ground: _Ground, rng: np.random.Generator) -> None:
    width = ground.width
    blade = tuple(max(0, c - 34) for c in ground.lower)
    for x, y in rng.uniform((0, ground.horizon), (width, width), (26, 2)):
        ground.draw.line([x, y, x + rng.uniform(-4, 4), y - 11], fill=blade, width=4)


def _dune(ground: _Ground, rng: np.random.Generator) -> None:
    width, top = ground.width, ground.horizon - ground.width * 0.1
    ground.draw.ellipse([-width * 0.4, top, width * rng.uniform(0.5, 0.8), width * 1.2], fill=ground.lower)


def _snowdrifts(ground: _Ground, rng: np.random.Generator) -> None:
    width = ground.width
    for x, y in rng.uniform((0, ground.horizon), (width, width), (8, 2)):
        ground.draw.ellipse([x - 12, y - 3, x + 12, y + 3], fill=(250, 252, 255))


def _foam(ground: _Ground, rng: np.random.Generator) -> None:
    ground.draw.rectangle([0, ground.horizon - 4, ground.width, ground.horizon + 3], fill=(240, 248, 250))


_DETAILS: dict[str, Callable[[_Ground, np.random.Generator], None]] = {
    "meadow": _grass, "beach": _foam, "snow": _snowdrifts, "sea": _waves, "wall": _bricks, "desert": _dune,
}  # fmt: skip


def _draw_thing(canvas: Image.Image, thing: Thing, x: float, y: float, radius: float, rng: np.random.Generator) -> None:
    pen = _MaskPen(canvas.size[0], x, y, radius, rng)
    SILHOUETTES[thing.noun](pen, rng)
    colour = _jitter(RGB[thing.colour], rng, 12)
    bright = sum(RGB[thing.colour]) > 330
    if rng.random() < 0.8:  # most things have an outline in contrast with the background
        edge = tuple(int(c * 0.35) for c in colour) if bright else tuple(int(c * 0.4 + 150) for c in colour)
        canvas.paste(edge, mask=pen.outline())
    canvas.paste(colour, mask=pen.body)
    if thing.material == "striped":
        contrast = tuple(int(c * 0.45) for c in colour) if bright else tuple(int(c * 0.45 + 135) for c in colour)
        canvas.paste(contrast, mask=pen.stripes(rng))
    dark = tuple(int(c * 0.4) for c in colour) if bright else tuple(int(c * 0.5 + 105) for c in colour)
    pale = tuple(int(c * 0.4 + 150) for c in colour) if bright else tuple(int(c * 0.3 + 178) for c in colour)
    if sum(colour) > 690:  # nothing is paler than white
        pale = (150, 165, 185)
    canvas.paste(dark, mask=pen.inside(pen.dark))
    canvas.paste(pale, mask=pen.inside(pen.pale))


def _weather(canvas: Image.Image, weather: str, rng: np.random.Generator) -> None:
    width = canvas.size[0]
    draw = ImageDraw.Draw(canvas)
    if weather == "rain":
        slant = rng.uniform(10, 18)
        for x, y in rng.uniform(0, width, (20, 2)):
            draw.line([x, y, x - slant, y + 30], fill=(120, 150, 205), width=4)
    elif weather == "snowfall":
        for x, y in rng.uniform(0, width, (26, 2)):
            r = rng.uniform(3.0, 4.6)
            draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))


def _jitter(colour: tuple[int, int, int], rng: np.random.Generator, amount: int) -> tuple[int, ...]:
    return tuple(int(np.clip(c + rng.integers(-amount, amount + 1), 0, 255)) for c in colour)


class _MaskPen:
    """A `silhouettes.Pen` that draws into masks, in a random pose."""

    def __init__(self, width: int, x: float, y: float, radius: float, rng: np.random.Generator) -> None:
        self.body, self.dark, self.pale = (Image.new("L", (width, width)) for _ in range(3))
        angle = rng.uniform(-0.16, 0.16)
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        stretch = rng.uniform(0.92, 1.08)
        self._columns = (
            (mirror * radius * stretch * math.cos(angle), mirror * radius * stretch * math.sin(angle)),
            (-radius / stretch * math.sin(angle), radius / stretch * math.cos(angle)),
        )
        self._origin = (x, y)
        self._radius = radius

    def fill(self, points: Points) -> None:
        self._polygon(self.body, points, 255)

    def cut(self, points: Points) -> None:
        self._polygon(self.body, points, 0)

    def shade(self, points: Points) -> None:
        self._polygon(self.dark, points, 255)

    def light(self, points: Points) -> None:
        self._polygon(self.pale, points, 255)

    def inside(self, mask: Image.Image) -> Image.Image:
        return Image.composite(mask, Image.new("L", mask.size), self.body)

    def outline(self) -> Image.Image:
        """Return the silhouette, extended by 3 pixels (0.6 pixels of the final image) on every side."""
        grown = np.asarray(self.body)
        reach = 3
        padded = np.pad(grown, reach)
        n = grown.shape[0]
        shifts = [(0, reach), (2 * reach, reach), (reach, 0), (reach, 2 * reach), (1, 1), (1, 5), (5, 1), (5, 5)]
        return Image.fromarray(np.maximum.reduce([padded[i : i + n, j : j + n] for i, j in shifts]))

    def stripes(self, rng: np.random.Generator) -> Image.Image:
        """Return bands across the silhouette, about four over its width."""
        n = self.body.size[0]
        grid_y, grid_x = np.mgrid[0:n, 0:n]
        direction = rng.choice([0.0, math.pi / 2, math.pi / 4])
        along = grid_x * math.cos(direction) + grid_y * math.sin(direction)
        period = max(self._radius * 0.55, 14.0)
        bands = ((along / period + rng.uniform()) % 1.0 < 0.5).astype(np.uint8) * 255
        return self.inside(Image.fromarray(bands))

    def _polygon(self, mask: Image.Image, points: Points, value: int) -> None:
        (a, b), (c, d) = self._columns
        x, y = self._origin
        ImageDraw.Draw(mask).polygon([(x + a * u + c * v, y + b * u + d * v) for u, v in points], fill=value)
