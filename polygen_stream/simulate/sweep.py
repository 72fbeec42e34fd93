"""One config on several numbers of GPUs, each simulated in a shortened form that takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, gcd

from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig, expected_group_draws, least_slots, node_share, pair_share
from polygen_stream.simulate.hardware import ModelTimes, place
from polygen_stream.simulate.node import simulate_node
from polygen_stream.simulate.outcome import Outcome

MIN_BATCH = 64  # texts of a node's batch after coarsening
MAX_STEPS = 2000  # steps that are simulated


@dataclass(frozen=True)
class Point:
    """A run on one number of GPUs, scaled from the simulated part to the whole run. Counts are of all nodes.

    Attributes:
        gpus: GPUs of the run.
        nodes: Nodes of the run.
        simulated: Fraction of the run that was simulated.
        hours: Hours to the end of the last step.
        gpu_hours: `hours` times `gpus`.
        first_step_s: Seconds to the end of the first step.
        waiting_share: Fraction of the trainer's time spent waiting after the first step.
        longest_wait_s: Longest wait of one step after the first.
        images: Images rendered.
        views: Images drawn, with repetition.
        reuse: Mean number of draws per caption.
        negatives_unused_share: Fraction of the hard negatives never drawn as such; None if none are rendered.
    """

    gpus: int
    nodes: int
    simulated: float
    hours: float
    gpu_hours: float
    first_step_s: float
    waiting_share: float
    longest_wait_s: float
    images: float
    views: float
    reuse: float
    negatives_unused_share: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Return the point as JSON-ready keys and numbers."""
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
    """Simulate a run on each number of GPUs.

    Args:
        config: Config of the whole run; its batch is shared by all nodes.
        times: How long the models take.
        gpus: Numbers of GPUs; one that exceeds a node must fill whole nodes.
        gpus_per_node: GPUs of a node.
        trainer_gpus: How many GPUs of a node train, where it has several.
        images: Approximate limit of images simulated per point; one may stand for several, see `coarsened`.
        say: Called with a line of progress.

    Raises:
        UserError: The nodes cannot share the batch or the GPUs.
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
    """Return a config in which one caption stands for several and takes their time, its times, and for how many.

    Calls, steps and waits keep their duration. A batch keeps at least MIN_BATCH texts and a call one image.
    """
    captions, generators, ring, train = config.captions, config.generators, config.ring, config.train
    common = gcd(train.batch, generators.batch, captions.batch, captions.backlog)
    size = max(n for n in range(1, common + 1) if common % n == 0 and (n == 1 or train.batch // n >= MIN_BATCH))
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
    """Return a config with fewer steps, fewer captions and a smaller ring, all by one factor, and that factor.

    What determines the rate stays: batch, curriculum over the run, reuse, backlog. As in every config, the ring keeps
    room for 4 batches and its first fill is at least one batch.
    """
    whole = _images(config)
    share = min(1.0, images / whole, MAX_STEPS / config.train.steps)
    train, captions, ring = config.train, config.captions, config.ring
    steps = max(10, round(train.steps * share))
    share = min(1.0, steps / train.steps)
    target = round(captions.target * share)
    positives = config.generators.positives
    per_group = positives + config.generators.negatives
    fill = max(train.batch, min(round(ring.min_fill * share), target or ring.min_fill))
    slots = max(round(ring.slots * share), least_slots(config), fill * per_group)
    update = {
        "train": train.model_copy(update={"steps": steps}),
        "captions": captions.model_copy(update={"target": max(target, fill) if captions.target else 0}),
        "ring": ring.model_copy(update={"slots": slots, "min_fill": fill, "max_age": ceil(ring.max_age * share)}),
    }
    return config.model_copy(update=update), share


def _images(config: RunConfig) -> float:
    """Return the expected number of images of a run; without captions.target, what the rate limiter's reuse implies."""
    draws = expected_group_draws(config)
    groups = config.captions.target or draws / (config.ring.samples_per_insert or 1.0)
    return groups * (config.generators.positives + config.generators.negatives * pair_share(config))


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
