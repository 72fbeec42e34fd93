"""What a simulated node works with: how long its models take, and which processes share a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polygen_stream.base.errors import UserError


@dataclass(frozen=True)
class ModelTimes:
    """Seconds that each model takes on one GPU.

    Args:
        image_s: Seconds per image of each generator, by recipe name.
        call_s: Overhead of one pipeline call, whatever its batch size.
        caption_s: Seconds per caption, its hard negative included.
        step_s: Overhead of one training step, beside `trained_image_s`.
        trained_image_s: Seconds per image of a training step, forward and backward.
        jitter: Standard deviation of the duration of a step or a call, as a fraction of it.
    """

    image_s: Mapping[str, float]
    call_s: float = 0.0
    caption_s: float = 0.0
    step_s: float = 0.0
    trained_image_s: float = 0.0
    jitter: float = 0.0


@dataclass(frozen=True)
class Placement:
    """The GPU of each process of a node. A GPU serves one process at a time, in the order of their requests.

    Args:
        trainers: GPU of each rank.
        captioner: GPU of the captioner.
        renderers: Generator and GPU of each renderer process.
    """

    trainers: Sequence[int]
    captioner: int
    renderers: Sequence[tuple[str, int]] = field(default=())

    @property
    def gpus(self) -> int:
        """Number of GPUs in use."""
        return 1 + max(*self.trainers, self.captioner, *(gpu for _, gpu in self.renderers))


def place(recipes: Sequence[str], gpus: int, trainers: int) -> Placement:
    """Place the ranks on the first GPUs and every generator on each of the others; a single GPU is shared by all.

    Every rendering GPU runs every generator, which balances generators of any speed. The captioner shares the first
    rendering GPU.

    Args:
        recipes: Names of the generators.
        gpus: GPUs of the node.
        trainers: GPUs that train.

    Raises:
        UserError: No GPU is left to render.
    """
    if gpus == 1:
        return Placement((0,), 0, tuple((name, 0) for name in recipes))
    if not 1 <= trainers < gpus:
        raise UserError(
            f"--trainer-gpus {trainers} of {gpus} GPUs leave {gpus - trainers} to render: give 1 to {gpus - 1}"
        )
    renderers = tuple((name, gpu) for gpu in range(trainers, gpus) for name in recipes)
    return Placement(tuple(range(trainers)), trainers, renderers)


def one_device_each(recipes: Sequence[str], replicas: Mapping[str, int]) -> Placement:
    """Place every process on a device of its own.

    Args:
        recipes: Names of the generators.
        replicas: Renderer processes of each generator that has more than one.
    """
    names = [name for name in recipes for _ in range(replicas.get(name, 1))]
    return Placement((0,), 1, tuple((name, 2 + number) for number, name in enumerate(names)))
