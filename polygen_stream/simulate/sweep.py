"""One config on ever more GPUs: a simulation of each, shortened to what can be simulated in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, gcd

from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig, curriculum_shares, expected_group_draws, node_share
from polygen_stream.simulate.hardware import ModelTimes, place
from polygen_stream.simulate.node import Outcome, simulate_node

SMALLEST = 64  # texts of a node's batch
MOST_STEPS = 2000  # to simulate


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
    times: ModelTimes,
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
        images: about the most pictures to simulate for a point; one may stand for several, see `coarsened`.

    Raises:
        UserError: the batch or the GPUs cannot be shared by nodes.
    """
    points = []
    for count in gpus:
        nodes = max(1, count // gpus_per_node)
        if count > gpus_per_node and count % gpus_per_node:
            raise UserError(f"--gpus {count} do not fill nodes of --gpus-per-node {gpus_per_node}")
        of_node = node_share(config, nodes)
        short, coarse_times, size = coarsened(of_node, times)
        short, share = shortened(short, images)
        placement = place(config.generators.names, min(count, gpus_per_node), trainer_gpus)
        say(f"{count} GPUs: {share:.2%} of the run on one of {nodes} nodes, {size} captions as one")
        outcome = simulate_node(short, coarse_times, placement, nodes)
        points.append(_point(count, nodes, share, size, outcome))
    return points


def coarsened(config: RunConfig, times: ModelTimes) -> tuple[RunConfig, ModelTimes, int]:
    """A config in which one caption stands for several, and takes as long as they; and for how many.

    Calls, steps and waits take what they took. At least SMALLEST texts are left of a batch, and one picture of a call.
    """
    captions, generators, ring, train = config.captions, config.generators, config.ring, config.train
    common = gcd(train.batch, generators.batch, captions.batch, captions.backlog)
    size = max(n for n in range(1, common + 1) if common % n == 0 and (n == 1 or train.batch // n >= SMALLEST))
    update = {
        "train": train.model_copy(update={"batch": train.batch // size}),
        "captions": captions.model_copy(
            update={
                "batch": captions.batch // size,
                "backlog": captions.backlog // size,
                "target": captions.target // size,
            }
        ),
        "generators": generators.model_copy(update={"batch": generators.batch // size}),
        "ring": ring.model_copy(
            update={
                "slots": ring.slots // size,
                "min_fill": ring.min_fill // size,
                "max_backlog": ring.max_backlog // size,
                "error_buffer": ring.error_buffer / size,
            }
        ),
    }
    slower = replace(
        times,
        image_s={name: size * seconds for name, seconds in times.image_s.items()},
        caption_s=size * times.caption_s,
        trained_image_s=size * times.trained_image_s,
    )
    return config.model_copy(update=update), slower, size


def shortened(config: RunConfig, images: int) -> tuple[RunConfig, float]:
    """A config with fewer steps and captions and a smaller ring, all by the same share, and that share.

    What sets the pace stays: batch, curriculum over the run, reuse, backlog. The ring keeps room for its 4 batches and
    its first fill is at least a batch, as every config's.
    """
    whole = _images(config)
    share = min(1.0, images / whole, MOST_STEPS / config.train.steps)
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
        "ring": ring.model_copy(update={"slots": slots, "min_fill": fill, "max_age": ceil(ring.max_age * share)}),
    }
    return config.model_copy(update=update), share


def _images(config: RunConfig) -> float:
    """Pictures that a run renders, about; of one without a target as many as its limiter or one draw each asks for."""
    draws = expected_group_draws(config)
    groups = config.captions.target or draws / (config.ring.samples_per_insert or 1.0)
    shares = curriculum_shares(config)
    pairs = sum(share / (1 - share) for share in shares) / len(shares)
    return groups * (config.generators.positives + config.generators.negatives * pairs)


def _point(gpus: int, nodes: int, share: float, size: int, outcome: Outcome) -> Point:
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
        images=sum(outcome.images.values()) * size * nodes / share,
        views=outcome.images_drawn * size * nodes / share,
        reuse=outcome.reuse,
        negatives_unused_share=outcome.negatives_unused / outcome.negatives if outcome.negatives else None,
    )
