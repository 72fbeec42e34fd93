"""`polygen-stream plan`: a proposal with its arithmetic, line by line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from polygen_stream.assets.model_configs import model_name
from polygen_stream.base.errors import UserError
from polygen_stream.capacity.batch_view import proposed_batch
from polygen_stream.capacity.gpus import parse_gpus
from polygen_stream.capacity.proposal import LEAVE_THE_GPU, TIME_SLICE_S, Proposal, arranged, remedies
from polygen_stream.capacity.rates import Rate, Rates
from polygen_stream.capacity.ring_size import BATCHES, MEMORY_SHARE
from polygen_stream.config import MEMORY, RunConfig
from polygen_stream.launch.process_plan import build_process_plan

IMAGE_CHANNELS = 3
GB = 10**9


def show_proposal(
    config: RunConfig, rates: Rates, proposal: Proposal, console: Console, node_memory_gb: float | None = None
) -> None:
    """Print rates with their sources, the division of GPUs, the figures of the run, and what helps an idle trainer.

    node_memory_gb: main memory of a node in 10^9 bytes, if it is known.
    """
    p, d = proposal, proposal.demand
    lines = [f"{config.name} on {p.gpus} GPU{'s' if p.gpus > 1 else ''}, rates of one {rates.gpu}:"]
    lines += [_rate(name, rate, "images/s") for name, rate in rates.generators.items()]
    lines += [
        _rate("captions", rates.captions, "captions/s"),
        _rate(f"trainer ({model_name(config.train.model)})", rates.trainer, "images/s"),
        "",
        *_division(p),
        "",
        *_rendering(rates, p),
        f"  a caption has {d.images:.2f} images on average, hard negatives included:"
        f" {p.images_per_s:.2f} / {d.images:.2f} = {p.captions_per_s:.2f} captions/s",
        f"  each is used {p.reuse:.0f} times, a step uses {d.step_captions:.0f}:"
        f" {p.captions_per_s:.2f} x {p.reuse:.0f} / {d.step_captions:.0f} ="
        f" {p.captions_per_s * p.reuse / d.step_captions:.3f} steps/s are offered",
        f"  a step trains on {d.step_images:.0f} images, {p.trainers} x {rates.trainer.per_s:.0f} images/s:"
        f" {p.trainers * rates.trainer.per_s / d.step_images:.3f} steps/s could be taken",
        f"  the trainer waits {p.trainer_waits:.0%} of its time: {p.steps_per_s:.3f} steps/s",
        f"  {p.steps} steps x {d.step_captions:.0f} / {p.reuse:.0f} = {p.captions:.0f} captions,"
        f" x {d.images:.2f} = {p.images:.0f} images",
        f"  {p.steps} / {p.steps_per_s:.3f} = {p.seconds / 3600:.1f} hours, x {p.gpus} = {p.gpu_hours:.0f} GPU-hours",
        "",
        "in the config:",
        *_settings(config, p, node_memory_gb),
        *_batch(config, rates, p),
    ]
    helps = remedies(config, rates, p)
    if helps:
        lines += ["", f"the trainer waits {p.trainer_waits:.0%} of its time; what helps:"]
        lines += [f"  {what}: {_effect(after, words)}" for what, after, words in helps]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _rate(name: str, rate: Rate, unit: str) -> str:
    return f"  {name:<20} {rate.per_s:>8g} {unit:<11} {rate.basis}: {rate.source}"


def _division(p: Proposal) -> list[str]:
    if p.gpus == 1:
        return ["cuda:0: every process, in turns"]
    lines = [f"{_devices(range(p.trainers))}: trainer"]
    if p.captioners:
        lines.append(f"{_devices([p.trainers])}: language models")
    for gpu in sorted({gpu for gpus in p.allocation.gpus.values() for gpu in gpus}):
        shares = [f"{name} {share:.0%}" for (name, on), share in p.allocation.shares.items() if on == gpu]
        lines.append(f"cuda:{gpu}: {', '.join(shares)} of its time")
    return lines if p.captioners else [*lines, "the language models take turns with the renderers"]


def _devices(indices: Sequence[int]) -> str:
    return ", ".join(f"cuda:{index}" for index in indices)


def _rendering(rates: Rates, p: Proposal) -> list[str]:
    inverse = " + ".join(f"1/{rate.per_s:g}" for rate in rates.generators.values())
    each = sum(1 / rate.per_s for rate in rates.generators.values())
    if p.gpus == 1:
        training = p.reuse * p.demand.step_images / p.demand.step_captions / rates.trainer.per_s
        rendering = p.demand.images * each / len(rates.generators)
        return [
            f"  a caption takes {1 / rates.captions.per_s:.2f} s to write,"
            f" {p.demand.images:.2f} x ({inverse}) / {len(rates.generators)} = {rendering:.2f} s to render,"
            f" {training:.2f} s to train on {p.reuse:.0f} times: {p.images_per_s:.2f} images/s"
        ]
    best = p.renderers * len(rates.generators) / each
    lines = [
        f"  {p.renderers} GPUs, {len(rates.generators)} generators that make equally many:"
        f" {p.renderers} x {len(rates.generators)} / ({inverse}) = {best:.2f} images/s if divided freely,"
        f" {p.allocation.images_per_s:.2f} as above"
    ]
    if p.images_per_s < p.allocation.images_per_s - 1e-6:
        lines.append(f"  with the language models' part ({rates.captions.per_s:g} captions/s): {p.images_per_s:.2f}")
    return lines


def _settings(config: RunConfig, p: Proposal, node_memory_gb: float | None) -> list[str]:
    lines = [
        f"  ring.samples_per_insert = {p.reuse * p.demand.draws:.1f}",
        *_ring(config, p, node_memory_gb),
        f"  train.ranks = {p.trainers}",
    ]
    for name, gpus in p.allocation.gpus.items() if p.renderers or config.launch.renderers else ():
        devices = ", ".join(f'"cuda:{gpu}"' for gpu in gpus)
        lines.append(f'  launch.renderers."{name}" = [{devices}]')
    device = arranged(config, p).captions.device
    if device != config.captions.device:
        lines.append(f'  captions.device = "{device}"')
    return lines if p.captioners else [*lines, *_time_slices(config)]


def _ring(config: RunConfig, p: Proposal, node_memory_gb: float | None) -> list[str]:
    """Return the size of the ring and where its images lie, and what a smaller one that the config has would do."""
    ring = p.ring
    size = ring.slots * config.ring.image_size**2 * IMAGE_CHANNELS / GB
    needs = f"the {ring.for_run} images of the run"
    if ring.for_run < ring.for_batches:
        needs = f"{BATCHES} batches = {ring.for_batches} images"
    why = f"the config's own, enough for {needs}" if ring.own else needs
    lines = [f"  ring.slots = {ring.slots}    # {why}; x {config.ring.image_size}^2 x 3 B = {size:.1f} GB"]
    if node_memory_gb is not None and size <= MEMORY_SHARE * node_memory_gb:
        lines.append(f'  ring.storage = "{MEMORY}"    # {size / node_memory_gb:.0%} of {node_memory_gb:.0f} GB')
    else:
        folder = "runs" if config.ring.storage == MEMORY else config.ring.storage
        why = "say --node-memory GB to see whether memory is enough"
        if node_memory_gb is not None:
            why = f"more than half of a node's {node_memory_gb:.0f} GB of memory"
        lines.append(f'  ring.storage = "{folder}"    # a folder on a local disk with {size:.1f} GB free; {why}')
    if config.ring.slots < ring.for_run:
        captions = config.ring.slots / p.demand.images
        within = captions * p.reuse / p.demand.step_captions * config.launch.nodes
        lines.append(
            f"  # not ring.slots = {config.ring.slots}, which hold {captions:.0f} of {p.captions:.0f} captions: each "
            f"would be drawn its {p.reuse:.0f} times within {within:.0f} of {p.steps} steps, and never again"
        )
    return lines


def _batch(config: RunConfig, rates: Rates, p: Proposal) -> list[str]:
    """Return the generators.batch for the GPUs that the rates are of, if their memory is known."""
    try:
        gpus = parse_gpus(f"{p.gpus}x{rates.gpu}")
    except UserError:  # measured ones: their file does not say on what
        return []
    on_gpus = arranged(config, p)
    found = proposed_batch(on_gpus, build_process_plan(on_gpus, there=False), gpus, rates.gpu)
    return [f"  generators.batch = {found[0]}    # {found[1]}"] if found else []


def _time_slices(config: RunConfig) -> list[str]:
    """Return what lets processes use a GPU in turn, each leaving it as empty as it found it."""
    lines = [f"  launch.time_slice_s = {config.launch.time_slice_s or TIME_SLICE_S}"]
    if config.generators.backend not in LEAVE_THE_GPU:
        lines.append(f'  generators.backend = "eager"    # engines cannot release a GPU: {config.generators.backend}')
    if config.captions.source == "vllm" and not config.captions.sleep_after_s:
        lines.append("  captions.sleep_after_s = 5.0    # or vLLM would keep its weights on the GPU")
    return lines


def _effect(after: Proposal | None, words: str) -> str:
    if after is None:
        return words
    return (
        f"{after.steps_per_s:.3f} steps/s, {after.seconds / 3600:.1f} hours, {after.images:.0f} images, "
        f"it waits {after.trainer_waits:.0%}"
    )
