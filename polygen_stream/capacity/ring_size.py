"""How large a ring should be and where its images lie: what `plan` proposes, and what the shipped configs have."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

BATCHES = 16  # in the ring, so that a caption is not drawn again at once
MEMORY_SHARE = 0.5  # of a node's main memory that its ring may take


@dataclass(frozen=True)
class RingSize:
    """Slots of a ring, and what they are measured by.

    Attributes:
        slots: What to configure: the config's own where that is enough.
        for_run: Images rendered in the whole run, of a node.
        for_batches: Images of BATCHES steps, of a node.
        own: Whether `slots` is what the config has.
    """

    slots: int
    for_run: int
    for_batches: int
    own: bool


def ring_size(configured: int, run_images: float, step_images: float, nodes: int = 1) -> RingSize:
    """Return the slots for a ring that makes room for no image by removing another.

    In a smaller ring a caption is drawn all its times within the part of the run for which it stays, which costs
    retrieval and composition (docs/results/streaming.md).

    Args:
        configured: ring.slots of the config.
        run_images: Images rendered in the whole run, over all nodes.
        step_images: Images that a step draws, over all nodes.
        nodes: Nodes that train one model; each has a ring of its own.
    """
    run, batches = ceil(run_images / nodes), ceil(BATCHES * step_images / nodes)
    least = max(run, batches)
    own = configured >= least
    return RingSize(configured if own else ceil(least / 1024) * 1024, run, batches, own)
