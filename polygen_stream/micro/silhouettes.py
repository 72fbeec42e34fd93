"""Drawing routines for the things of the micro world, one per noun.

A routine draws on a `Pen` in coordinates of about -1..1, x to the right and y downwards. It varies the proportions
randomly, so that a class is a family of shapes instead of a single sprite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

Points = list[tuple[float, float]]


class Pen(Protocol):
    """Draws polygons, which are given by their corners."""

    def fill(self, points: Points) -> None:
        """Add a polygon to the silhouette."""
        ...

    def cut(self, points: Points) -> None:
        """Remove a polygon from the silhouette."""
        ...

    def shade(self, points: Points) -> None:
        """Mark a dark detail inside the silhouette, such as an eye."""
        ...

    def light(self, points: Points) -> None:
        """Mark a light detail inside the silhouette, such as a window."""
        ...


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Points:
    """Return the corners of an ellipse or of a sector of it.

    Args:
        x: of the centre.
        y: of the centre.
        rx: horizontal radius.
        ry: vertical radius.
        start: begin of the sector, in degrees clockwise from the right.
        stop: end of the sector.
    """
    angles = np.radians(np.linspace(start, stop, 28))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """Return the corners of a rectangle between two opposite ones."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def radial(spokes: int, outer: float, inner: float) -> Points:
    """Return the corners of a star with its first tip at the top."""
    radii = [outer, inner] * spokes
    angles = [math.pi * i / spokes - math.pi / 2 for i in range(2 * spokes)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _house(pen: Pen, rng: np.random.Generator) -> None:
    eaves, ridge, width = rng.uniform(-0.25, 0.05), rng.uniform(-1.0, -0.8), rng.uniform(0.6, 0.8)
    pen.fill(box(-width, eaves, width, 0.85))
    pen.fill([(-width - 0.22, eaves + 0.05), (0, ridge), (width + 0.22, eaves + 0.05)])
    door = rng.uniform(-0.35, 0.2)
    pen.shade(box(door, 0.3, door + 0.32, 0.85))
    if rng.random() < 0.6:
        pen.fill(box(width * 0.45, ridge + 0.05, width * 0.45 + 0.22, eaves))


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    trunk = rng.uniform(0.12, 0.18)
    pen.fill(box(-trunk, 0.3, trunk, 0.98))
    pen.shade(box(-trunk, 0.45, trunk, 0.98))
    layers = int(rng.integers(2, 4))
    for i in range(layers):
        top = -1.0 + 0.42 * i
        half = 0.42 + 0.17 * i + rng.uniform(-0.04, 0.04)
        pen.fill([(0, top), (half, top + 0.68), (-half, top + 0.68)])


def _fish(pen: Pen, rng: np.random.Generator) -> None:
    height = rng.uniform(0.42, 0.58)
    pen.fill(ellipse(-0.2, 0, 0.75, height))
    pen.fill([(0.35, 0), (1.0, -rng.uniform(0.45, 0.65)), (0.85, 0), (1.0, rng.uniform(0.45, 0.65))])
    pen.fill([(-0.35, -height * 0.8), (0.15, -height - 0.3), (0.2, -height * 0.7)])
    pen.shade(ellipse(-0.58, -0.12, 0.13, 0.13))


def _car(pen: Pen, rng: np.random.Generator) -> None:
    roof = rng.uniform(-0.6, -0.45)
    pen.fill(box(-1.0, -0.08, 1.0, 0.38))
    pen.fill([(-0.7, 0.0), (-0.42, roof), (0.35, roof), (0.68, 0.0)])
    pen.light([(-0.46, -0.05), (-0.3, roof + 0.14), (-0.04, roof + 0.14), (-0.04, -0.05)])
    pen.light([(0.1, -0.05), (0.1, roof + 0.14), (0.28, roof + 0.14), (0.44, -0.05)])
    for x in (-0.55, 0.55):
        pen.fill(ellipse(x, 0.42, 0.27, 0.27))
        pen.shade(ellipse(x, 0.42, 0.22, 0.22))


def _cup(pen: Pen, rng: np.random.Generator) -> None:
    foot = rng.uniform(0.4, 0.55)
    pen.fill(ellipse(0.6, 0.02, 0.4, 0.42))
    pen.cut(ellipse(0.6, 0.02, 0.2, 0.22))
    pen.fill([(-0.75, -0.7), (0.55, -0.7), (foot * 0.85, 0.8), (-foot - 0.1, 0.8)])
    pen.shade(ellipse(-0.1, -0.68, 0.6, 0.12))


def _star(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(radial(5, 1.05, rng.uniform(0.38, 0.48)))


def _key(pen: Pen, rng: np.random.Generator) -> None:
    shaft = rng.uniform(0.13, 0.17)
    pen.fill(ellipse(-0.6, 0, 0.42, 0.42))
    pen.cut(ellipse(-0.6, 0, 0.18, 0.18))
    pen.fill(box(-0.25, -shaft, 1.0, shaft))
    pen.fill(box(0.72, 0, 0.98, rng.uniform(0.42, 0.52)))
    pen.fill(box(0.35, 0, 0.56, rng.uniform(0.36, 0.44)))


def _heart(pen: Pen, rng: np.random.Generator) -> None:
    fat = rng.uniform(0.46, 0.54)
    pen.fill(ellipse(-0.45, -0.35, fat, fat))
    pen.fill(ellipse(0.45, -0.35, fat, fat))
    pen.fill([(-0.88, -0.12), (0, -0.35), (0.88, -0.12), (0, rng.uniform(0.85, 1.0))])


def _moon(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(ellipse(0, 0, 0.95, 0.95))
    pen.cut(ellipse(rng.uniform(0.4, 0.52), rng.uniform(-0.15, 0.05), 0.78, 0.8))


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill([(-1.0, 0.3), (1.0, 0.3), (0.6, 0.85), (-0.6, 0.85)])
    pen.fill(box(-0.06, -0.95, 0.06, 0.35))
    pen.fill([(0.1, -0.9), (rng.uniform(0.65, 0.9), 0.15), (0.1, 0.15)])
    if rng.random() < 0.7:
        pen.fill([(-0.14, -0.7), (-0.65, 0.15), (-0.14, 0.15)])


def _flower(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(box(-0.07, 0.1, 0.07, 1.0))
    pen.fill([(0, 0.8), (0.5, 0.42), (0.42, 0.75)])
    pen.fill([(0, 0.9), (-0.5, 0.52), (-0.42, 0.85)])
    petals, phase = int(rng.integers(5, 7)), rng.uniform(0, 1)
    for i in range(petals):
        a = 2 * math.pi * (i + phase) / petals
        pen.fill(ellipse(0.4 * math.cos(a), -0.38 + 0.4 * math.sin(a), 0.27, 0.27))
    pen.light(ellipse(0, -0.38, 0.22, 0.22))


def _bird(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(ellipse(0.05, 0.15, 0.62, 0.42))
    pen.fill(ellipse(-0.5, -0.35, 0.32, 0.32))
    pen.fill([(-0.75, -0.45), (-1.08, -0.28), (-0.75, -0.2)])
    pen.fill([(0.45, 0.0), (1.05, -rng.uniform(0.25, 0.5)), (0.95, 0.15), (0.5, 0.35)])
    pen.shade([(-0.15, 0.0), (0.5, 0.08), (0.1, 0.4)])
    pen.shade(ellipse(-0.55, -0.42, 0.09, 0.09))
    for x in (-0.08, 0.18):
        pen.fill(box(x, 0.5, x + 0.09, 0.95))


def _umbrella(pen: Pen, rng: np.random.Generator) -> None:
    depth = rng.uniform(0.85, 1.0)
    pen.fill(ellipse(0, -0.05, 1.0, depth, 180, 360))
    for x in (-0.66, 0.0, 0.66):
        pen.cut(ellipse(x, -0.03, 0.32, 0.16))
    pen.fill(box(-0.07, -0.5, 0.07, 0.75))
    pen.fill(ellipse(0.16, 0.72, 0.24, 0.26, 0, 180))
    pen.cut(ellipse(0.16, 0.72, 0.1, 0.1))


def _mushroom(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(ellipse(0, 0.05, 0.98, rng.uniform(0.85, 1.0), 180, 360))
    stem = rng.uniform(0.24, 0.34)
    pen.fill([(-stem, 0.0), (stem, 0.0), (stem + 0.08, 0.9), (-stem - 0.08, 0.9)])
    for x, y in ((-0.5, -0.3), (0.05, -0.58), (0.5, -0.25)):
        pen.light(ellipse(x + rng.uniform(-0.05, 0.05), y, 0.17, 0.15))


def _hat(pen: Pen, rng: np.random.Generator) -> None:
    width = rng.uniform(0.48, 0.58)
    pen.fill([(-width, -0.85), (width, -0.85), (width - 0.04, 0.5), (-width + 0.04, 0.5)])
    pen.fill(ellipse(0, 0.52, 1.05, 0.24))
    pen.shade(box(-width, 0.05, width, 0.34))


def _bell(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(ellipse(0, -0.2, 0.55, 0.68, 180, 360))
    pen.fill([(-0.55, -0.2), (0.55, -0.2), (rng.uniform(0.85, 0.98), 0.58), (-rng.uniform(0.85, 0.98), 0.58)])
    pen.fill(ellipse(0, -0.88, 0.15, 0.15))
    pen.fill(ellipse(0, 0.72, 0.22, 0.22))
    pen.shade(box(-0.8, 0.36, 0.8, 0.48))


def _arrow(pen: Pen, rng: np.random.Generator) -> None:
    shaft, head = rng.uniform(0.16, 0.24), rng.uniform(0.0, 0.2)
    pen.fill(box(-1.0, -shaft, head + 0.05, shaft))
    pen.fill([(head, -0.68), (1.05, 0), (head, 0.68)])


def _apple(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(ellipse(-0.3, 0.18, 0.58, rng.uniform(0.64, 0.74)))
    pen.fill(ellipse(0.3, 0.18, 0.58, rng.uniform(0.64, 0.74)))
    pen.cut([(-0.2, -0.6), (0.2, -0.6), (0.0, -0.3)])
    pen.fill([(-0.06, -0.4), (0.06, -0.4), (0.12, -0.92), (0.0, -0.95)])
    pen.fill(ellipse(0.42, -0.72, 0.32, 0.15))


def _cat(pen: Pen, rng: np.random.Generator) -> None:
    ear = rng.uniform(0.85, 1.0)
    pen.fill(ellipse(0, 0.15, 0.85, 0.72))
    for side in (-1, 1):
        pen.fill([(side * 0.82, 0.05), (side * 0.78, -ear), (side * 0.2, -0.45)])
        pen.shade(ellipse(side * 0.35, 0.0, 0.13, 0.17))
    pen.shade([(-0.14, 0.3), (0.14, 0.3), (0, 0.46)])


def _lamp(pen: Pen, rng: np.random.Generator) -> None:
    top = rng.uniform(0.28, 0.4)
    pen.fill([(-top, -0.95), (top, -0.95), (0.88, 0.05), (-0.88, 0.05)])
    pen.fill(box(-0.1, 0.0, 0.1, 0.85))
    pen.fill(ellipse(0, 0.86, 0.58, 0.16))
    pen.light([(-top * 0.6, -0.8), (top * 0.6, -0.8), (0.5, -0.1), (-0.5, -0.1)])


def _leaf(pen: Pen, rng: np.random.Generator) -> None:
    half = rng.uniform(0.45, 0.6)
    edge = [(-0.8, 0.7), (-0.65 * half - 0.2, -0.1 * half), (0.15 - half * 0.5, -0.72), (0.95, -0.95)]
    back = [(0.72, -0.15 + half * 0.5), (0.1 + half * 0.4, 0.55), (-0.4, 0.82)]
    pen.fill(edge + back)
    pen.fill([(-0.62, 0.5), (-0.5, 0.62), (-1.0, 1.05), (-1.08, 0.95)])
    pen.shade([(-0.66, 0.62), (0.66, -0.72), (0.72, -0.66), (-0.58, 0.7)])


def _crown(pen: Pen, rng: np.random.Generator) -> None:
    peak, valley = rng.uniform(-0.9, -0.7), rng.uniform(-0.15, 0.1)
    pen.fill([(-0.95, 0.7), (-0.95, peak), (-0.48, valley), (0, peak - 0.1), (0.48, valley), (0.95, peak), (0.95, 0.7)])
    pen.shade(box(-0.95, 0.42, 0.95, 0.58))


def _ball(pen: Pen, rng: np.random.Generator) -> None:
    pen.fill(ellipse(0, 0, 0.9, 0.9))
    tilt = rng.uniform(-0.12, 0.12)
    pen.light([(-0.9, -0.16 + tilt), (0.9, -0.16 - tilt), (0.9, 0.2 - tilt), (-0.9, 0.2 + tilt)])


def _candle(pen: Pen, rng: np.random.Generator) -> None:
    width = rng.uniform(0.24, 0.32)
    pen.fill(box(-width, -0.3, width, 0.9))
    pen.fill(box(-0.6, 0.72, 0.6, 0.95))
    pen.fill([(0, -1.05), (0.2, -0.62), (0.0, -0.38), (-0.2, -0.62)])
    pen.light([(0, -0.9), (0.12, -0.6), (0.0, -0.45), (-0.12, -0.6)])
    pen.shade(box(-0.04, -0.42, 0.04, -0.28))


_ROUTINES = (
    _house, _tree, _fish, _car, _cup, _star, _key, _heart, _moon, _boat, _flower, _bird,
    _umbrella, _mushroom, _hat, _bell, _arrow, _apple, _cat, _lamp, _leaf, _crown, _ball, _candle,
)  # fmt: skip
# noun -> its drawing routine
SILHOUETTES: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    routine.__name__.removeprefix("_"): routine for routine in _ROUTINES
}
