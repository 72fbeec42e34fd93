"""`polygen-stream simulate`: checks of its arguments, and its output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import RunConfig
from polygen_stream.simulate import view
from polygen_stream.simulate.against import compare, measure
from polygen_stream.simulate.hardware import ModelTimes
from polygen_stream.simulate.sweep import sweep


def simulate_run(
    config: RunConfig,
    gpus: str,
    rates: Sequence[Path],
    *,
    gpus_per_node: int,
    trainer_gpus: int,
    jitter: float,
    images: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Print the table of a sweep over GPUs; write its points and its plot where files are given.

    Args:
        config: Config of the whole run.
        gpus: Numbers of GPUs, separated by commas.
        rates: JSON files of `polygen-stream bench`; without any, reference figures are used.
        gpus_per_node: GPUs of a node.
        trainer_gpus: How many GPUs of a node train.
        jitter: Standard deviation of the duration of a step or a call, as a fraction of it.
        images: Approximate limit of images simulated per point.
        json_file: File for the points.
        plot: File for the plot.

    Raises:
        UserError: An argument is invalid, or a role has no rate.
    """
    counts = _gpu_counts(gpus)
    for file in (json_file, plot):
        if file is not None and not file.parent.is_dir():
            raise UserError(f"{file}: the folder {file.parent} does not exist; make it first")
    found = find_rates(config, rates)
    times = ModelTimes(
        image_s={name: 1 / rate.per_s for name, rate in found.generators.items()},
        caption_s=1 / found.captions.per_s,
        trained_image_s=1 / found.trainer.per_s,
        jitter=jitter,
    )
    points = sweep(
        config, times, counts, gpus_per_node=gpus_per_node, trainer_gpus=trainer_gpus, images=images, say=_say
    )
    print(view.table(points), end="")
    sources = {"captions": found.captions, "trainer": found.trainer, **found.generators}
    print(f"\nrates of one GPU ({found.gpu}):")
    for name, rate in sources.items():
        print(f"- {name} {rate.per_s:g}/s, {rate.basis}: {rate.source}")
    late = [point for point in points if point.longest_wait_s > config.ring.draw_timeout_s]
    for point in late:
        print(
            f"warning: on {point.gpus} GPUs a step waits {point.longest_wait_s:.0f} s, and ring.draw_timeout_s = "
            f"{config.ring.draw_timeout_s:g} would end the run: raise it",
            file=sys.stderr,
        )
    if json_file is not None:
        result = {"jitter": jitter, "gpus_per_node": gpus_per_node, "points": [point.to_dict() for point in points]}
        json_file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        view.plot(points, plot)


def _gpu_counts(words: str) -> list[int]:
    try:
        counts = [int(word) for word in words.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise UserError(f"--gpus {words}: expected numbers of GPUs, e.g. 1,8,64")
    return counts


def simulate_against(run: Path) -> None:
    """Print a completed run beside its simulation with the run's own rates.

    Raises:
        UserError: The run is not complete, or its config asks for what is not simulated.
    """
    print(view.comparison(compare(run), measure(run).times), end="")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
