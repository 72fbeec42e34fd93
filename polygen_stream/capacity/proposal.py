"""A division of GPUs among the roles of a run, and what comes of it. A pure function of config, rates and numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from polygen_stream.assets.model_configs import model_name
from polygen_stream.base.errors import UserError
from polygen_stream.capacity.allocation import Allocation, allocate
from polygen_stream.capacity.rates import Rate, Rates
from polygen_stream.config import RunConfig, curriculum_shares

REUSE = 40  # the paper's epochs: every caption is seen so often
SHARED = 4  # with fewer GPUs than this the language models have none of their own


@dataclass(frozen=True)
class Demand:
    """What one caption costs and a step takes, means over the curriculum.

    images: rendered for a caption. step_images, step_captions: drawn by a step.
    """

    images: float
    step_images: float
    step_captions: float


@dataclass(frozen=True)
class Proposal:
    """Seconds and shares of a run on `gpus` GPUs. reuse: draws of each caption.

    In phases all roles take turns on the GPUs that they share; `allocation` is then of renderers alone.
    """

    gpus: int
    trainers: int
    captioners: int  # GPUs of their own
    renderers: int  # likewise; 0: the trainer's are shared
    allocation: Allocation
    demand: Demand
    reuse: float
    images_per_s: float  # rendered
    captions_per_s: float
    steps_per_s: float
    trainer_waits: float  # share of its time
    steps: int
    slots: int

    @property
    def seconds(self) -> float:
        return self.steps / self.steps_per_s

    @property
    def gpu_hours(self) -> float:
        return self.gpus * self.seconds / 3600

    @property
    def captions(self) -> float:
        """Produced in all."""
        return self.steps * self.demand.step_captions / self.reuse

    @property
    def images(self) -> float:
        """Rendered in all."""
        return self.captions * self.demand.images


def demand_of(config: RunConfig) -> Demand:
    """A step of B texts with a share p of hard negatives draws B (1 - p) captions, and B p of them with a negative."""
    shares, generators, batch = curriculum_shares(config), config.generators, config.train.batch
    mean = sum(shares) / len(shares)
    pairs = sum(p / (1 - p) for p in shares) / len(shares)
    return Demand(
        images=generators.positives + pairs * generators.negatives,
        step_images=batch * ((1 - mean) * generators.positives + mean * generators.negatives),
        step_captions=batch * (1 - mean),
    )


def propose(
    config: RunConfig,
    rates: Rates,
    gpus: int,
    reuse: float = REUSE,
    steps: int | None = None,
    images: int | None = None,
) -> Proposal:
    """The division of GPUs that trains fastest.

    Args:
        reuse: draws of each caption, if the ring lasts so long.
        steps: of the run; else what `images` rendered pictures allow at that reuse, else train.steps.

    Raises:
        UserError: fewer GPUs than one.
    """
    if gpus < 1:
        raise UserError(f"--gpus {gpus}: a run needs at least 1")
    demand = demand_of(config)
    if steps is None:
        captions = images / demand.images if images else None
        steps = config.train.steps if captions is None else max(1, round(captions * reuse / demand.step_captions))
    if gpus == 1:
        return _in_phases(rates, demand, reuse, steps)
    captioners = 1 if gpus >= SHARED else 0
    most = gpus - captioners - 1
    found = [_divided(rates, demand, gpus, trainers, captioners, reuse, steps) for trainers in range(1, most + 1)]
    # The fastest; of those that are equally fast the one that renders most.
    return max(found, key=lambda each: (round(each.steps_per_s, 6), each.renderers))


def _divided(
    rates: Rates, demand: Demand, gpus: int, trainers: int, captioners: int, reuse: float, steps: int
) -> Proposal:
    renderers = gpus - captioners - trainers
    where = list(range(trainers + captioners, gpus))
    allocation = allocate({name: rate.per_s for name, rate in rates.generators.items()}, where)
    captions_per_s = allocation.images_per_s / demand.images
    if captioners:
        captions_per_s = min(captions_per_s, captioners * rates.captions.per_s)
    else:  # in turns: a caption takes its writing and its share of the renderers' time
        captions_per_s = 1 / (1 / captions_per_s + 1 / rates.captions.per_s / renderers)
    offered = captions_per_s * reuse / demand.step_captions  # steps per second
    eaten = trainers * rates.trainer.per_s / demand.step_images
    return Proposal(
        gpus=gpus,
        trainers=trainers,
        captioners=captioners,
        renderers=renderers,
        allocation=allocation,
        demand=demand,
        reuse=reuse,
        images_per_s=captions_per_s * demand.images,
        captions_per_s=captions_per_s,
        steps_per_s=min(offered, eaten),
        trainer_waits=max(0.0, 1 - offered / eaten),
        steps=steps,
        slots=_slots(demand, captions_per_s * demand.images),
    )


def _in_phases(rates: Rates, demand: Demand, reuse: float, steps: int) -> Proposal:
    """Of one GPU every caption takes the time to write it, to render it and to train on it `reuse` times."""
    each = sum(1 / rate.per_s for rate in rates.generators.values()) / len(rates.generators)
    training = reuse * demand.step_images / demand.step_captions / rates.trainer.per_s
    seconds = 1 / rates.captions.per_s + demand.images * each + training
    allocation = allocate({name: rate.per_s for name, rate in rates.generators.items()}, [0])
    return Proposal(
        gpus=1,
        trainers=1,
        captioners=0,
        renderers=0,
        allocation=allocation,
        demand=demand,
        reuse=reuse,
        images_per_s=demand.images / seconds,
        captions_per_s=1 / seconds,
        steps_per_s=reuse / seconds / demand.step_captions,
        trainer_waits=1 - training / seconds,
        steps=steps,
        slots=_slots(demand, demand.images / seconds),
    )


def _slots(demand: Demand, images_per_s: float) -> int:
    """16 batches, or an hour of rendering where that is more: what is replayed should be many captions."""
    return ceil(max(16 * demand.step_images, 3600 * images_per_s) / 1024) * 1024


def remedies(config: RunConfig, rates: Rates, proposal: Proposal) -> list[tuple[str, Proposal | None, str]]:
    """What helps a trainer that waits: (what, the proposal that follows, in words)."""
    if proposal.trainer_waits < 0.05:
        return []
    found: list[tuple[str, Proposal | None, str]] = []
    if proposal.renderers:
        idle = proposal.trainers * proposal.trainer_waits
        gain = 1 + idle / proposal.renderers
        what = f'its GPU renders while it waits ("cuda:0" in launch.renderers): {idle:.2f} GPU more'
        found.append((what, None, f"about {proposal.images_per_s * gain:.1f} images/s instead of"
                                  f" {proposal.images_per_s:.1f}"))  # fmt: skip
        balanced = proposal.reuse / (1 - proposal.trainer_waits)
        more = propose(config, rates, proposal.gpus, balanced, proposal.steps)
        found.append((f"each caption is drawn {balanced:.0f} times instead of {proposal.reuse:.0f}", more, ""))
    slowest = min(rates.generators, key=lambda name: rates.generators[name].per_s)
    halved = Rate(2 * rates.generators[slowest].per_s, "estimate", f"half of {slowest}'s steps")
    faster = replace(rates, generators={**rates.generators, slowest: halved})
    fewer = propose(config, faster, proposal.gpus, proposal.reuse, proposal.steps)
    found.append((f"half the sampling steps of {slowest}, the slowest generator", fewer, ""))
    if proposal.renderers:
        factor = 1 / (1 - proposal.trainer_waits)
        found.append(
            (f"a model of up to {factor:.1f} times the compute of {model_name(config.train.model)}", None, "no slower")
        )
    return found
