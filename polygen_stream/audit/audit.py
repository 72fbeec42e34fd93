"""`polygen-stream audit`: loads the generators of a config one after the other and writes what the oracle found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from rich.console import Console

from polygen_stream.analyze.spectra import spectral_distances
from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.audit.captions import audit_editor, audit_writer
from polygen_stream.audit.ensemble import audit_ensemble, audit_painter
from polygen_stream.audit.generators import GeneratorAudit, audit_generator, sample_pairs
from polygen_stream.audit.view import audit_figure, audit_table, distance_table, language_table
from polygen_stream.base.errors import UserError
from polygen_stream.captions.sources import language_models
from polygen_stream.config import RunConfig
from polygen_stream.engine.runtime import accelerate
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe
from polygen_stream.micro.edits import EDITS
from polygen_stream.micro.oracle import load_oracle
from polygen_stream.micro.painter import SIZE
from polygen_stream.report.samples import CaptionSample, draw_samples


def audit_all(
    config: RunConfig,
    pictures: int,
    threads: int,
    as_json: Path | None,
    picture: Path | None,
    samples: Path | None,
    console: Console,
) -> None:
    """Grade every generator of the config and its language models, if it has any; show, write and draw the result.

    Args:
        config: names the generators and language models.
        pictures: images per generator and kind of question.
        threads: CPU threads.
        as_json: file for every figure.
        picture: file for the plots.
        samples: file for a grid of captions x generators.
        console: shows the tables.

    Raises:
        UserError: a generator that does not render micro images, or that cannot be loaded; a folder that is not there.
    """
    for path in (as_json, picture, samples):
        if path is not None and not path.resolve().parent.is_dir():
            raise UserError(f"cannot write {path}: there is no folder {path.resolve().parent}")
    recipes = [load_recipe(name) for name in config.generators.recipes]
    for recipe in recipes:
        _check_micro(recipe)
    torch.set_num_threads(threads)
    oracle = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors")
    pairs = sample_pairs(config.seed)
    audits: dict[str, GeneratorAudit] = {}
    drawn: list[tuple[np.ndarray, np.ndarray]] = []  # per generator: pictures of the captions, of the hard negatives
    for recipe in recipes:
        with console.status(f"rendering with {recipe.name}"):
            generator = load_generator(recipe, config.generators.device)
            accelerate(generator, config.generators.backend, threads)
            audits[recipe.name] = audit_generator(generator, oracle, pictures, config.seed)
            # as in a run, a hard negative has the noise of its positive
            captions, negatives = zip(*pairs, strict=True)
            seeds = range(len(pairs))
            drawn.append((generator.render(captions, seeds), generator.render(negatives, seeds)))
    painter = audit_painter(oracle, pictures, config.seed)
    results = {name: audit.figures for name, audit in audits.items()}
    together = {"ensemble": audit_ensemble(list(audits.values())), "painter": painter.figures}
    distances = spectral_distances({name: audit.spectrum for name, audit in {**audits, "painter": painter}.items()})
    console.print(audit_table(results, together))
    console.print(distance_table(distances))
    written = _audit_language_models(config, pictures, console) if config.captions.source == "transformers" else {}
    if as_json:
        figures = {
            "pictures": pictures,
            "generators": results,
            **together,
            "spectral_distances": distances,
            "language_models": written,
        }
        as_json.write_text(json.dumps(figures, indent=2) + "\n")
        console.print(f"figures: {as_json}")
    if picture:
        figure = audit_figure(results, together)
        figure.savefig(picture, dpi=130)
        plt.close(figure)
        console.print(f"picture: {picture}")
    if samples:
        grid = [
            CaptionSample(
                text, negative, *([(g, of[i]) for g, of in enumerate(half)] for half in zip(*drawn, strict=True))
            )
            for i, (text, negative) in enumerate(pairs)
        ]
        figure = draw_samples(grid, [recipe.name for recipe in recipes])
        figure.savefig(samples, dpi=130)
        plt.close(figure)
        console.print(f"samples: {samples}")


def _audit_language_models(config: RunConfig, count: int, console: Console) -> dict[str, dict[str, object]]:
    writer, editor = language_models(config.captions)
    with console.status("asking the language models"):
        found = {
            config.captions.writer: audit_writer(writer, count, config.seed),
            config.captions.editor: audit_editor(editor, max(1, count // len(EDITS)), config.seed),
        }
    console.print(language_table(*found.values()))
    return found


def _check_micro(recipe: Recipe) -> None:
    if (recipe.width, recipe.height) != (SIZE, SIZE):
        raise UserError(
            f"{recipe.origin} draws {recipe.width}x{recipe.height} pictures, and the oracle reads the micro"
            f" world's {SIZE}x{SIZE}: audit a config whose generators are micro ones"
        )
