"""One config on ever more GPUs: a simulation of each, shortened to what can be simulated in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from polygen_stream.config import RunConfig, expected_group_draws, node_share
from polygen_stream.errors import UserError
from polygen_stream.simulate.hardware import Times, place
from polygen_stream.simulate.node import Outcome, simulate_node


@dataclass(frozen=True)
class Point:
    """A run on so many GPUs, whole again.

    hours is to the last step. Counts are of all nodes; longest_wait_s is of one step after the first.
    """

    gpus: int
    nodes: int
    simulated: float  # share of the run that was simulated
    hours: float
    gpu_hours: float
    first_step_s: float
    waiting_share: float
    longest_wait_s: float
    images: float
    views: float  # pictures drawn, with repetition
    reuse: float  # draws of a caption
    negatives_unused_share: float | None  # None: the run renders no hard negatives

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


def sweep(
    config: RunConfig,
    times: Times,
    gpus: Sequence[int],
    *,
    gpus_per_node: int,
    trainer_gpus: int,
    images: int,
    say: Callable[[str], None] = lambda _: None,
) -> list[Point]:
    """A point for each number of GPUs.

    Args:
        config: of the whole run, its batch shared by all nodes.
        gpus: of the run; more than a node has must fill whole nodes.
        trainer_gpus: of a node that has several, how many train.
        images: about the most pictures to simulate for a point.

    Raises:
        UserError: the batch or the GPUs cannot be shared by nodes.
    """
    points = []
    for count in gpus:
        nodes = max(1, count // gpus_per_node)
        if count > gpus_per_node and count % gpus_per_node:
            raise UserError(f"--gpus {count} do not fill nodes of --gpus-per-node {gpus_per_node}")
        of_node = node_share(config, nodes)
        short, share = shortened(of_node, images)
        placement = place(config.generators.recipes, min(count, gpus_per_node), trainer_gpus)
        say(f"{count} GPUs: {share:.2%} of the run on one of {nodes} nodes")
        points.append(_point(count, nodes, share, simulate_node(short, times, placement, nodes)))
    return points


def shortened(config: RunConfig, images: int) -> tuple[RunConfig, float]:
    """A config with fewer steps and captions and a smaller ring, all by the same share, and that share.

    What sets the pace stays: batch, curriculum over the run, reuse, backlog. The ring keeps room for its 4 batches and
    its first fill is at least a batch, as every config's.
    """
    whole = _images(config)
    share = min(1.0, images / whole)
    train, captions, ring = config.train, config.captions, config.ring
    steps = max(10, round(train.steps * share))
    share = min(1.0, steps / train.steps)
    target = round(captions.target * share)
    positives = config.generators.positives
    per_group = positives + config.generators.negatives
    fill = max(train.batch, min(round(ring.min_fill * share), target or ring.min_fill))
    slots = max(round(ring.slots * share), 4 * train.batch * positives, fill * per_group)
    update = {
        "train": train.model_copy(update={"steps": steps}),
        "captions": captions.model_copy(update={"target": max(target, fill) if captions.target else 0}),
        "ring": ring.model_copy(update={"slots": slots, "min_fill": fill}),
    }
    return config.model_copy(update=update), share


def _images(config: RunConfig) -> float:
    """Pictures that a run renders, about; of one without a target as many as its limiter or one draw each asks for."""
    draws = expected_group_draws(config)
    groups = config.captions.target or draws / (config.ring.samples_per_insert or 1.0)
    return groups * (config.generators.positives + config.generators.negatives / 2)


def _point(gpus: int, nodes: int, share: float, outcome: Outcome) -> Point:
    hours = outcome.finished_s / 3600 / share
    return Point(
        gpus=gpus,
        nodes=nodes,
        simulated=share,
        hours=hours,
        gpu_hours=hours * gpus,
        first_step_s=outcome.waited_s[0] + outcome.worked_s[0],
        waiting_share=outcome.waiting_share,
        longest_wait_s=max(outcome.waited_s[1:], default=0.0),
        images=sum(outcome.images.values()) * nodes / share,
        views=outcome.images_drawn * nodes / share,
        reuse=outcome.reuse,
        negatives_unused_share=outcome.negatives_unused / outcome.negatives if outcome.negatives else None,
    )
