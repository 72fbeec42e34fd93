"""What a simulated node works with: how long its models take, and which of them share a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polygen_stream.base.errors import UserError


@dataclass(frozen=True)
class ModelTimes:
    """Seconds that models take on one GPU.

    Args:
        image_s: per picture of each generator, by recipe name.
        call_s: of a pipeline call besides, whatever its size.
        caption_s: per caption, its hard negative included.
        step_s: of a training step besides `trained_image_s`.
        trained_image_s: per picture of a step, forward and backward.
        jitter: standard deviation of a step's and a call's duration, as a share of it.
    """

    image_s: Mapping[str, float]
    call_s: float = 0.0
    caption_s: float = 0.0
    step_s: float = 0.0
    trained_image_s: float = 0.0
    jitter: float = 0.0


@dataclass(frozen=True)
class Placement:
    """Which GPU of a node each process computes on. A GPU does one thing at a time, in the order of asking.

    Args:
        trainers: the GPU of each rank.
        captioner: that of the captioner.
        renderers: generator and GPU of each renderer process.
    """

    trainers: Sequence[int]
    captioner: int
    renderers: Sequence[tuple[str, int]] = field(default=())

    @property
    def gpus(self) -> int:
        return 1 + max(*self.trainers, self.captioner, *(gpu for _, gpu in self.renderers))


def place(recipes: Sequence[str], gpus: int, trainers: int) -> Placement:
    """Ranks on the first GPUs, every generator on each of the others; on a single GPU all share it.

    So generators of any speed are balanced. The captioner is on the first GPU that renders.

    Raises:
        UserError: no GPU is left that could render.
    """
    if gpus == 1:
        return Placement((0,), 0, tuple((name, 0) for name in recipes))
    if not 1 <= trainers < gpus:
        raise UserError(
            f"--trainer-gpus {trainers} of {gpus} GPUs leave {gpus - trainers} to render: give 1 to {gpus - 1}"
        )
    renderers = tuple((name, gpu) for gpu in range(trainers, gpus) for name in recipes)
    return Placement(tuple(range(trainers)), trainers, renderers)


def alone(recipes: Sequence[str], replicas: Mapping[str, int]) -> Placement:
    """Every process on a device of its own, a generator in as many as `replicas` says."""
    names = [name for name in recipes for _ in range(replicas.get(name, 1))]
    return Placement((0,), 1, tuple((name, 2 + number) for number, name in enumerate(names)))
