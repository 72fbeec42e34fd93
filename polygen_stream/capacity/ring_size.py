"""How many slots a ring should have at least: what `plan` proposes, and what the shipped configs have to reach."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

BATCHES = 16  # in the ring, so that a caption is not drawn again at once
RENDERED_S = 3600.0  # of rendering, so that a trainer does not wait for one generator


@dataclass(frozen=True)
class RingSize:
    """Slots of a ring, and what they are measured by.

    Attributes:
        slots: What to configure: the config's own where that is enough.
        for_batches: Images of BATCHES steps, of a node.
        for_rendering: Images rendered in RENDERED_S.
        own: Whether `slots` is what the config has.
    """

    slots: int
    for_batches: int
    for_rendering: int
    own: bool


def ring_size(configured: int, step_images: float, images_per_s: float, nodes: int = 1) -> RingSize:
    """Return the slots for a ring.

    Args:
        configured: ring.slots of the config.
        step_images: Images that a step draws, over all nodes.
        images_per_s: Images rendered per second on a node.
        nodes: Nodes that train one model; each has a ring of its own.
    """
    batches, rendering = ceil(BATCHES * step_images / nodes), ceil(RENDERED_S * images_per_s)
    least = ceil(max(batches, rendering) / 1024) * 1024
    own = configured >= max(batches, rendering)
    return RingSize(configured if own else least, batches, rendering, own)
