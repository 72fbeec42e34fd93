"""The painter: turns a scene into a 32x32 picture, a different one for every seed.

It is the micro world's reality. Its pictures train the micro generators and evaluate CLIP; they never train CLIP.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from polygen_stream.micro.silhouettes import SILHOUETTES, Points
from polygen_stream.micro.world import Scene, Thing

SIZE = 32
_OVERSAMPLING = 5  # pictures are drawn this many times larger and reduced by averaging

RGB = {
    "red": (214, 38, 38), "orange": (245, 138, 24), "yellow": (246, 222, 52), "green": (36, 150, 54),
    "blue": (40, 74, 214), "purple": (132, 48, 176), "pink": (246, 138, 190), "white": (246, 246, 246),
    "black": (24, 24, 26),
}  # fmt: skip
GROUND = {  # upper and lower colour of each background
    "meadow": ((166, 214, 240), (126, 190, 96)), "beach": ((140, 206, 230), (232, 212, 156)),
    "snow": ((196, 210, 226), (228, 234, 240)), "sea": ((150, 200, 230), (52, 128, 160)),
    "wall": ((150, 96, 80), (150, 96, 80)), "desert": ((240, 200, 150), (204, 150, 92)),
}  # fmt: skip


def paint(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A picture of the scene: uint8 [32, 32, 3]."""
    width = SIZE * _OVERSAMPLING
    canvas = _background(scene.background, width, rng)
    for thing, (x, y, radius) in zip(_instances(scene), _layout(scene, rng), strict=True):
        _draw_thing(canvas, thing, x * width, y * width, radius * width, rng)
    _weather(canvas, scene.weather, rng)
    picture = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    if scene.lighting == "night":
        picture = picture * np.float32([0.48, 0.50, 0.66]) + np.float32([0, 2, 18])
    picture = picture * rng.uniform(0.94, 1.06) + rng.normal(0, 1.5, picture.shape)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _instances(scene: Scene) -> list[Thing]:
    return list(scene.things) if scene.is_pair else [scene.things[0]] * scene.count


def _layout(scene: Scene, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centre x, y and radius of every instance, as shares of the picture's width."""
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


def _background(name: str, width: int, rng: np.random.Generator) -> Image.Image:
    upper, lower = (_jitter(c, rng, 8) for c in GROUND[name])
    canvas = Image.new("RGB", (width, width), upper)
    draw = ImageDraw.Draw(canvas)
    horizon = int(width * rng.uniform(0.42, 0.6))
    draw.rectangle([0, horizon, width, width], fill=lower)
    if name == "wall":
        brick, mortar = width // 5, tuple(min(255, c + 32) for c in upper)
        shift = int(rng.integers(brick))
        for row, y in enumerate(range(-shift, width, brick)):
            draw.line([0, y, width, y], fill=mortar, width=4)
            for x in range(-shift + (brick if row % 2 else 0), width, brick * 2):
                draw.line([x, y, x, y + brick], fill=mortar, width=4)
    elif name == "sea":
        crest = tuple(min(255, c + 50) for c in lower)
        for y in range(horizon + width // 14, width, width // 7):
            phase = rng.uniform(0, 6.28)
            draw.line([(x, y + 4 * math.sin(x / 11 + phase)) for x in range(0, width, 4)], fill=crest, width=4)
    elif name == "meadow":
        blade = tuple(max(0, c - 34) for c in lower)
        for x, y in rng.uniform((0, horizon), (width, width), (26, 2)):
            draw.line([x, y, x + rng.uniform(-4, 4), y - 11], fill=blade, width=4)
    elif name == "desert":
        draw.ellipse([-width * 0.4, horizon - width * 0.1, width * rng.uniform(0.5, 0.8), width * 1.2], fill=lower)
    elif name == "snow":
        for x, y in rng.uniform((0, horizon), (width, width), (8, 2)):
            draw.ellipse([x - 12, y - 3, x + 12, y + 3], fill=(250, 252, 255))
    elif name == "beach":
        foam = (240, 248, 250)
        draw.rectangle([0, horizon - 4, width, horizon + 3], fill=foam)
    return canvas


def _draw_thing(canvas: Image.Image, thing: Thing, x: float, y: float, radius: float, rng: np.random.Generator) -> None:
    pen = _MaskPen(canvas.size[0], x, y, radius, rng)
    SILHOUETTES[thing.noun](pen, rng)
    colour = _jitter(RGB[thing.colour], rng, 12)
    bright = sum(RGB[thing.colour]) > 330
    if rng.random() < 0.8:  # line style: most things have an outline that sets them off from the ground
        edge = tuple(int(c * 0.35) for c in colour) if bright else tuple(int(c * 0.4 + 150) for c in colour)
        canvas.paste(edge, mask=pen.outline())
    canvas.paste(colour, mask=pen.body)
    if thing.material == "striped":
        contrast = tuple(int(c * 0.45) for c in colour) if bright else tuple(int(c * 0.45 + 135) for c in colour)
        canvas.paste(contrast, mask=pen.stripes(rng))
    dark = tuple(int(c * 0.4) for c in colour) if bright else tuple(int(c * 0.5 + 105) for c in colour)
    pale = tuple(int(c * 0.4 + 150) for c in colour) if bright else tuple(int(c * 0.3 + 178) for c in colour)
    if sum(colour) > 690:  # white has nothing paler than itself
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
    """A `silhouettes.Pen` that rasterises into masks, under a random pose."""

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
        """The silhouette grown by about a fifth of a final pixel on every side."""
        grown = np.asarray(self.body)
        reach = 3
        padded = np.pad(grown, reach)
        n = grown.shape[0]
        shifts = [(0, reach), (2 * reach, reach), (reach, 0), (reach, 2 * reach), (1, 1), (1, 5), (5, 1), (5, 5)]
        return Image.fromarray(np.maximum.reduce([padded[i : i + n, j : j + n] for i, j in shifts]))

    def stripes(self, rng: np.random.Generator) -> Image.Image:
        """Bands across the silhouette, about four over its width."""
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
