"""Compute what follows from a config and several parts have to agree on."""

from __future__ import annotations

import math

from polygen_stream.base.errors import UserError
from polygen_stream.config.schema import RunConfig, TrainConfig
from polygen_stream.schedule.curriculum import Curriculum


def asks_for_negatives(config: RunConfig) -> bool:
    """Return whether the curriculum of a run has hard negatives at any step."""
    curriculum = config.curriculum
    return curriculum.kind == "co_occurrence" or max(curriculum.start, curriculum.end) > 0


def pair_share(config: RunConfig) -> float:
    """Return the mean share, over the run, of produced groups that have a hard negative: p / (1 - p), or all."""
    if config.curriculum.kind == "co_occurrence":
        return 1.0
    shares = curriculum_shares(config)
    return sum(p / (1 - p) for p in shares) / len(shares)


def least_slots(config: RunConfig) -> int:
    """Return the slots that a ring needs for its batches.

    That is 4 batches. With co-occurrence a quarter of the ring keeps captions of which a text is still to be shown, and
    that has to be 2 batches of captions with their hard negatives.
    """
    generators, batch = config.generators, config.train.batch
    if config.curriculum.kind == "co_occurrence" and config.ring.mode == "throughput":
        return 8 * batch * (generators.positives + generators.negatives)
    return 4 * batch * generators.positives


def images_per_text(config: RunConfig) -> int:
    """Return n+, the most images of a text in a batch."""
    return config.train.images_per_text or config.generators.positives


def curriculum_of(config: RunConfig) -> Curriculum:
    """Return a new curriculum of the run, at its first step. It has a state: every caller takes one of its own."""
    schedule = config.curriculum.model_dump(exclude={"leftover_age"})
    return Curriculum(steps=config.train.steps, texts=config.train.batch, **schedule)


def curriculum_shares(config: RunConfig) -> list[float]:
    """Return the share of hard negatives at 101 steps from the first to the last, evenly spread."""
    curriculum, steps = curriculum_of(config), config.train.steps
    return [curriculum.share(steps * i // 100) for i in range(101)]


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step.

    It rises linearly to `lr` over `warmup` steps, stays there until the last `lr_decay_share` of the steps, and falls:
    as a half cosine, linearly, or as 1 - sqrt(progress) (Haegele et al., arXiv 2405.18392). It would be 0 one step
    after the last.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    start = max(config.warmup, round(config.steps * (1 - config.lr_decay_share)))
    progress = min(1.0, max(0, step - start) / max(1, config.steps - start))
    if config.lr_decay == "linear":
        return config.lr * (1 - progress)
    if config.lr_decay == "sqrt":
        return config.lr * (1 - math.sqrt(progress))
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_warning(config: TrainConfig) -> str:
    """Return what is wrong with a warm-up that is longer than the run; "" if it is not."""
    if config.warmup <= config.steps:
        return ""
    return (
        f"train.warmup = {config.warmup} is more than train.steps = {config.steps}: the learning rate rises to "
        f"{learning_rate(config.steps - 1, config):.2g} and never reaches train.lr = {config.lr:g}; lower train.warmup"
    )


def expected_group_draws(config: RunConfig) -> int:
    """Return about how many groups all training steps together draw.

    A step of B texts with a share p of hard negatives draws B (1 - p) groups, because a negative comes with the group
    of its positive. With co-occurrence each of its B (1 - 2p) captions of which one text is shown is drawn again in a
    batch of B such captions, of which there are 1 - 2p per step: B (2 - 3p) / (2 - 2p) groups on average.
    """
    shares = curriculum_shares(config)
    if config.curriculum.kind == "co_occurrence":
        draws = [(2 - 3 * share) / (2 - 2 * share) for share in shares]
        return round(config.train.steps * config.train.batch * sum(draws) / len(draws))
    return round(config.train.steps * config.train.batch * (1 - sum(shares) / len(shares)))


def remote_generators(config: RunConfig) -> tuple[str, ...]:
    """Return the generators that render on the machines of generators.remote, in the order of generators.recipes."""
    generators = config.generators
    there = (generators.remote_recipes or generators.names) if generators.remote else ()
    return tuple(name for name in generators.names if name in there)


def evaluated_tasks(config: RunConfig) -> tuple[str, ...]:
    """Return what a run's checkpoints are scored on, as `polygen-stream evaluate --tasks` names it."""
    return (*(("micro",) if config.captions.bank == "micro" else ()), *config.evaluate.tasks)


def no_scores(config: RunConfig) -> str:
    """Return in words why a run's checkpoints are not scored; "" if they are."""
    if evaluated_tasks(config):
        return ""
    return (
        f"no scores: captions.bank = {config.captions.bank!r} has no test set of its own, and evaluate.tasks names no "
        "task"
    )


def task_window(config: RunConfig) -> tuple[int, float]:
    """Compute the window of a ring in deterministic mode.

    Unless ring.window is set, the window is all of production if that fits, else three quarters of what fits: the rest
    is the room in which producers work ahead. It moves so that a group is drawn ring.samples_per_insert times on
    average or, if that is 0, so that the last step reaches the last caption.

    Returns:
        The tasks in the window, and the tasks by which it moves on per step.
    """
    ring, captions, steps = config.ring, config.captions, config.train.steps
    fits = ring.slots // (config.generators.positives + config.generators.negatives)
    all_fits = 0 < captions.target <= fits
    window = ring.window or (captions.target if all_fits else max(ring.min_fill, 3 * fits // 4))
    if ring.samples_per_insert:
        return window, expected_group_draws(config) / steps / ring.samples_per_insert
    return window, (captions.target - ring.min_fill) / steps


def groups_in_flight(config: RunConfig, renderers: int | None = None) -> int:
    """Return how many captions a node has to work on at once so that no renderer idles.

    A batch that the language models write while the renderers have one in hand and one to come.

    Args:
        config: Config of the node.
        renderers: Renderers of each generator; None: those of the generator with most of them in launch.renderers.
    """
    generators = config.generators
    if renderers is None:
        renderers = max((len(devices) for devices in config.launch.renderers.values()), default=1)
    images = 2 * generators.batch * renderers * len(generators.names)
    return config.captions.batch + -(-images // generators.positives)


def node_share(config: RunConfig, nodes: int) -> RunConfig:
    """Return the config of one of several nodes that train one model.

    The nodes share train.batch, captions.target, ring.min_fill and ring.error_buffer, which is in draws as the batch
    is; of these two a node keeps at least what lets it draw its batch. All else holds per node: the rest of ring.*,
    ranks, producers.

    Args:
        config: Config of the whole run.
        nodes: Number of nodes.

    Raises:
        UserError: The batch cannot be shared evenly.
    """
    batch, target = config.train.batch, config.captions.target
    if batch % nodes or batch // nodes < 2 * config.train.ranks:
        raise UserError(
            f"train.batch = {batch} texts cannot be shared by {nodes} nodes with train.ranks = {config.train.ranks} "
            f"each: make it a multiple of {nodes}, at least {2 * nodes * config.train.ranks}"
        )
    train = config.train.model_copy(update={"batch": batch // nodes})
    captions = config.captions.model_copy(update={"target": -(-target // nodes)})
    ring, draws = config.ring, config.ring.error_buffer
    if ring.samples_per_insert and nodes > 1:
        draws = max(draws / nodes, ring.samples_per_insert, (batch // nodes + ring.samples_per_insert) / 2)
    fill = max(-(-ring.min_fill // nodes), batch // nodes) if nodes > 1 else ring.min_fill
    ring = ring.model_copy(update={"error_buffer": draws, "min_fill": fill})
    return config.model_copy(update={"train": train, "captions": captions, "ring": ring})
