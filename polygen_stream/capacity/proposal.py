"""Proposed division of GPUs among the roles of a run, and its expected rates: a pure function of config and rates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from polygen_stream.assets.model_configs import model_name
from polygen_stream.base.errors import UserError
from polygen_stream.capacity.allocation import Allocation, allocate
from polygen_stream.capacity.rates import Rate, Rates
from polygen_stream.capacity.ring_size import RingSize, ring_size
from polygen_stream.config import RunConfig, curriculum_shares, expected_group_draws, images_per_text, pair_share

REUSE = 40  # uses of each caption: the paper's number of epochs
SHARED = 4  # GPUs from which on the language models get one of their own
TIME_SLICE_S = 120.0  # of processes that take turns on a GPU
LEAVE_THE_GPU = ("eager", "torch-compile")  # backends whose renderers can, between time slices


@dataclass(frozen=True)
class Demand:
    """Images and captions that a run needs, averaged over the curriculum.

    Attributes:
        images: Images rendered per caption.
        step_images: Images drawn by a step.
        step_captions: Captions used by a step: shown with all of their texts that the curriculum shows.
        draws: Draws per use of a caption: 1; more with co-occurrence, where many captions show their texts one by one.
    """

    images: float
    step_images: float
    step_captions: float
    draws: float


@dataclass(frozen=True)
class Proposal:
    """A division of GPUs and the rates expected of it.

    Attributes:
        gpus: GPUs of the run.
        trainers: GPUs that train.
        captioners: GPUs of the language models alone; 0: they share those of the renderers.
        renderers: GPUs that render; 0: every role takes turns on the trainer's GPU.
        allocation: Which generator renders on which GPU.
        demand: Images and captions per step.
        reuse: Uses of each caption.
        images_per_s: Images rendered per second.
        captions_per_s: Captions written per second.
        steps_per_s: Training steps per second.
        trainer_waits: Fraction of its time that the trainer waits.
        steps: Steps of the run.
        ring: Slots of the ring.
    """

    gpus: int
    trainers: int
    captioners: int
    renderers: int
    allocation: Allocation
    demand: Demand
    reuse: float
    images_per_s: float
    captions_per_s: float
    steps_per_s: float
    trainer_waits: float
    steps: int
    ring: RingSize

    @property
    def seconds(self) -> float:
        """Duration of the run in seconds."""
        return self.steps / self.steps_per_s

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of the run."""
        return self.gpus * self.seconds / 3600

    @property
    def captions(self) -> float:
        """Captions written in the whole run."""
        return self.steps * self.demand.step_captions / self.reuse

    @property
    def images(self) -> float:
        """Images rendered in the whole run."""
        return self.captions * self.demand.images


def demand_of(config: RunConfig) -> Demand:
    """Return the demand of a config.

    A step of B texts with a fraction p of hard negatives draws B (1 - p) captions, B p of them with their negative.
    With co-occurrence half of the texts are hard negatives, so a step uses B / 2 captions.
    """
    shares, generators, batch = curriculum_shares(config), config.generators, config.train.batch
    negatives = 0.5 if config.curriculum.kind == "co_occurrence" else sum(shares) / len(shares)  # of all texts
    n, step_captions = images_per_text(config), batch * (1 - negatives)
    return Demand(
        images=generators.positives + pair_share(config) * generators.negatives,
        step_images=batch * ((1 - negatives) * n + negatives * min(n, generators.negatives)),
        step_captions=step_captions,
        draws=expected_group_draws(config) / config.train.steps / step_captions,
    )


def propose(
    config: RunConfig,
    rates: Rates,
    gpus: int,
    reuse: float = REUSE,
    steps: int | None = None,
    images: int | None = None,
) -> Proposal:
    """Return the division of GPUs that trains fastest.

    Args:
        config: The config.
        rates: Rates of one GPU.
        gpus: Number of GPUs.
        reuse: Uses of each caption.
        steps: Steps of the run; None: as many as `images` allow at that reuse, else train.steps.
        images: Images to render; None: no limit.

    Raises:
        UserError: There is less than one GPU.
    """
    if gpus < 1:
        raise UserError(f"--gpus {gpus}: a run needs at least 1")
    demand = demand_of(config)
    if steps is None:
        captions = images / demand.images if images else None
        steps = config.train.steps if captions is None else max(1, round(captions * reuse / demand.step_captions))
    if gpus == 1:
        return _in_phases(config, rates, demand, reuse, steps)
    captioners = 1 if gpus >= SHARED else 0
    most = gpus - captioners - 1
    found = [
        _divided(config, rates, demand, gpus, trainers, captioners, reuse, steps) for trainers in range(1, most + 1)
    ]
    # The fastest; of those that are equally fast the one that renders most.
    return max(found, key=lambda each: (round(each.steps_per_s, 6), each.renderers))


def _divided(
    config: RunConfig,
    rates: Rates,
    demand: Demand,
    gpus: int,
    trainers: int,
    captioners: int,
    reuse: float,
    steps: int,
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
        ring=_ring(config, demand, reuse, steps),
    )


def _ring(config: RunConfig, demand: Demand, reuse: float, steps: int) -> RingSize:
    images = steps * demand.step_captions / reuse * demand.images
    return ring_size(config.ring.slots, images, demand.step_images, config.launch.nodes)


def arranged(config: RunConfig, proposal: Proposal) -> RunConfig:
    """Return a config with its roles on the GPUs of a proposal, as far as memory depends on it."""
    p, sources = proposal, ("transformers", "vllm")
    if p.renderers:
        where, renderers = p.trainers, p.allocation.gpus
    else:
        where, renderers = 0, dict.fromkeys(p.allocation.gpus, (0,))
    devices = {name: tuple(f"cuda:{gpu}" for gpu in gpus) for name, gpus in renderers.items()}
    time_slice_s = 0.0 if p.captioners else config.launch.time_slice_s or TIME_SLICE_S
    eager = time_slice_s and config.generators.backend not in LEAVE_THE_GPU
    captions = {"device": f"cuda:{where}"} if config.captions.source in sources else {}
    return config.model_copy(
        update={
            "launch": config.launch.model_copy(update={"renderers": devices, "time_slice_s": time_slice_s}),
            "train": config.train.model_copy(
                update={"device": "cuda" if p.trainers > 1 else "cuda:0", "ranks": p.trainers}
            ),
            "captions": config.captions.model_copy(update=captions),
            "generators": config.generators.model_copy(update={"backend": "eager"} if eager else {}),
        }
    )


def _in_phases(config: RunConfig, rates: Rates, demand: Demand, reuse: float, steps: int) -> Proposal:
    """Return the proposal for one GPU, which writes each caption, renders it and trains on it `reuse` times in turn."""
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
        ring=_ring(config, demand, reuse, steps),
    )


def remedies(config: RunConfig, rates: Rates, proposal: Proposal) -> list[tuple[str, Proposal | None, str]]:
    """Return what helps a trainer that waits, as (change, resulting proposal or None, effect in words)."""
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
        found.append((f"each caption is used {balanced:.0f} times instead of {proposal.reuse:.0f}", more, ""))
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
