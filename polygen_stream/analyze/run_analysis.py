"""`polygen-stream analyze`: measure the generators of a run, and whether its model can tell them apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from polygen_stream.analyze.image_set import ImageSet, render_images
from polygen_stream.analyze.invariance import FEATURES
from polygen_stream.analyze.measure import measure
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import check_writable
from polygen_stream.base.json_files import write_json
from polygen_stream.base.pictures import open_picture
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import read_journal
from polygen_stream.config import RunConfig, load_config
from polygen_stream.engine.runtime import accelerate
from polygen_stream.evaluate.encoder import Encoder, load_encoder, resolve_checkpoint
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.micro.painter import SIZE

REAL_MOST = 2000  # images of a user's folder, at most


def analyze_run(
    run_dir: Path,
    *,
    captions: int,
    seeds: int,
    threads: int,
    reference: str | None,
    pretrained: str | None,
    real: Path | None,
    console: Console,
) -> dict[str, Any]:
    """Render some of a run's captions by all of its generators, measure, and write RUN/analysis.json.

    Args:
        run_dir: the run folder.
        captions: how many, evenly over the run.
        seeds: images of each caption by each generator.
        threads: CPU threads.
        reference: a fixed CLIP, as `evaluate` names it, for CLIPScore and diversity; without one, the oracle of the
            micro world.
        pretrained: its weights.
        real: folder of real images whose spectrum the generators' are compared with; micro runs have the painter's.
        console: shows the table.

    Returns:
        The content of analysis.json.

    Raises:
        UserError: no run, no caption; a reference that the run itself trained; no judge for images of this size.
    """
    run = RunFolder.open(run_dir.resolve())
    check_writable(run.analysis)
    config = load_config(run.config)
    written = [
        (entry.outcome.text, entry.task.concept)
        for entry in read_journal(run.journal)
        if isinstance(entry.outcome, Caption)
    ]
    if not written:
        raise UserError(f"{run} has no caption in its {run.journal.name}, so there is nothing to render")
    torch.set_num_threads(threads)
    logging.getLogger().setLevel(logging.ERROR)
    judge = None if reference is None else _reference(reference, pretrained, run.path)
    size = config.ring.image_size
    if judge is None and size != SIZE:
        raise UserError(
            f"{run} draws {size}x{size} pictures, and only the micro world ({SIZE}x{SIZE}) has a judge of its own:"
            " name a fixed CLIP with --reference MODEL --pretrained FILE"
        )
    chosen = [written[i] for i in np.unique(np.linspace(0, len(written) - 1, captions).round().astype(int))]
    images = _render(config, chosen, seeds, threads, console)
    found = {
        "about": f"{len(chosen)} captions of the run, drawn {seeds} times by every generator, judged by"
        f" {reference or 'the oracle'}.",
        "classes": "caption",
        **measure(images, images.caption, run.path, judge=judge, real=_real(real, size)),
    }
    write_json(run.analysis, found, indent=1)
    console.print(analysis_table(found))
    console.print(f"figures: {run.analysis}", soft_wrap=True)
    return found


def analysis_table(found: Mapping[str, Any]) -> Table:
    """Return a table with a column per generator and one for the ensemble; ± half of a 95 % interval."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    columns = {**found["generators"], "ensemble": found["ensemble"]}
    for name in columns:
        table.add_column(name.rpartition("/")[2], justify="right", no_wrap=True)

    def row(label: str, cell: Callable[[Any], str], key: str) -> None:
        if any(key in one for one in columns.values()):
            table.add_row(label, *(cell(one[key]) if key in one else "" for one in columns.values()))

    row("oracle reads the caption, %", _percent, "oracle")
    row("CLIPScore", _mean, "clip_score")
    row("nearest prototype is its own, %", _percent, "prototype")
    row("diversity, unbiased std", _mean, "diversity")
    row("Vendi score per picture", "{:.3f}".format, "vendi_share")
    row("scatter between generators", "{:.3f}".format, "between_share")
    row("  if they were all one", "{:.3f}".format, "between_share_if_one_generator")
    row("spectral slope", "{:.2f}".format, "slope")
    row("power above Nyquist / 2, %", lambda value: f"{100 * value:.2f}", "high_frequency_share")
    row("spectrum from real, decades", "{:.3f}".format, "spectral_distance")
    for which, probe in found["invariance"].items():
        blank = [""] * len(found["generators"])
        told = FEATURES.get(which, which)
        table.add_row(f"generator probe on {told}, % (chance {100 * probe['chance']:.0f})", *blank, _percent(probe))
    return table


def _percent(value: Mapping[str, float]) -> str:
    return f"{100 * value['share']:.0f} ±{50 * (value['high'] - value['low']):.0f}"


def _mean(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.2f} ±{(value['high'] - value['low']) / 2:.2f}"


def _reference(name: str, pretrained: str | None, run_dir: Path) -> Encoder:
    if pretrained is None and run_dir in resolve_checkpoint(name).resolve().parents:
        raise UserError(
            f"--reference {name} is a model that {run_dir} itself trained: what it learned from the pictures cannot"
            " grade them; name another one"
        )
    return load_encoder(name, pretrained)


def _render(
    config: RunConfig, captions: Sequence[tuple[str, str]], seeds: int, threads: int, console: Console
) -> ImageSet:
    """captions: (text, concept) of each."""
    diffusers.utils.logging.set_verbosity_error()
    generators = {}
    for recipe in map(load_recipe, config.generators.recipes):
        size = config.ring.image_size if recipe.width != config.ring.image_size else None
        generators[recipe.name] = load_generator(recipe, config.generators.device, size)
        accelerate(generators[recipe.name], config.generators.backend, threads)
    with console.status(f"rendering {len(captions)} captions {seeds} times by {len(generators)} generators"):
        texts, concepts = [text for text, _ in captions], [concept for _, concept in captions]
        return render_images(generators, texts, concepts, seeds, config.seed)


def _real(folder: Path | None, size: int) -> np.ndarray | None:
    """Square centres of up to REAL_MOST images below a folder, uint8 [n, size, size, 3]."""
    if folder is None:
        return None
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))[:REAL_MOST]
    if not files:
        raise UserError(f"--real {folder} holds no picture (png, jpg, webp)")
    pictures = []
    for file in files:
        picture = open_picture(file, str(file))
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        pictures.append(np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)))
    return np.stack(pictures)
