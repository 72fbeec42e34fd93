"""Rates of one device: how fast it renders, writes captions and trains, as measured by `bench` or from references.

Proposals and simulations both start from a `Rates`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polygen_stream.assets.model_configs import model_name
from polygen_stream.assets.resources import is_recipe_file
from polygen_stream.base.errors import UserError
from polygen_stream.capacity.measured_rates import read_measured_rates
from polygen_stream.config import RunConfig

REFERENCE = Path(__file__).with_name("reference_rates.toml")
# A backward pass costs two forward passes. With gradient accumulation every image is encoded once more, for the loss of
# the whole batch (train/grad_cache.py): four parts of work instead of three.
ACCUMULATED = 3 / 4


@dataclass(frozen=True)
class Rate:
    """A rate of one device.

    Attributes:
        per_s: Items per second.
        basis: "measured" by `polygen-stream bench`, "literature" (published) or "estimate" (derived).
        source: Where the figure comes from.
    """

    per_s: float
    basis: Literal["measured", "literature", "estimate"]
    source: str


@dataclass(frozen=True)
class Rates:
    """Rates of one device in each role.

    Attributes:
        gpu: The device; "as measured" for measured rates.
        generators: Images per second, by recipe name.
        captions: Captions with their hard negatives per second, both language models on one device.
        trainer: Images per second, forward and backward, as often as train.accum_freq has them encoded.
    """

    gpu: str
    generators: Mapping[str, Rate]
    captions: Rate
    trainer: Rate


def find_rates(config: RunConfig, files: Sequence[Path] = ()) -> Rates:
    """Return the rates of a config's roles, from the files where these have them, else from the reference figures.

    The trainer's is that of its model, less what gradient accumulation costs; that of captions counts for the language
    models that it was measured with.

    Args:
        config: The config.
        files: JSON of `bench generators`, `bench captions`, `bench trainer` or `make gpu-test`; later ones win.

    Raises:
        UserError: A file has no rates, or neither files nor references have a rate for a role.
    """
    reference = tomllib.loads(REFERENCE.read_text(encoding="utf-8"))
    # By name, and a recipe of the user's own may have the name of a shipped one.
    shipped = [recipe for recipe in config.generators.recipes if not is_recipe_file(recipe)]
    generators = {name: Rate(**row) for name, row in reference["generators"].items() if name in shipped}
    captions, trainers = Rate(**reference["captions"]), reference["trainer"]
    model = model_name(config.train.model)
    trainer = Rate(**trainers[model]) if config.train.model in trainers else None
    if config.captions.source == "grammar":
        captions = Rate(1e6, "estimate", "captions.source = 'grammar' has no model to wait for")
    accum_freq = config.train.accum_freq
    if trainer is not None:
        trainer = _with_accumulation(trainer, 1, accum_freq)
    for file in files:
        measured = read_measured_rates(file)
        generators |= {name: Rate(per_s, "measured", str(file)) for name, per_s in measured.generators.items()}
        written, section = measured.captions.get(config.captions.source), config.captions
        if written and (written.writer, written.editor) == (section.writer, section.editor):
            captions = Rate(written.captions_per_s, "measured", str(file))
        if (trained := measured.trainer.get(model)) is not None:
            rate = Rate(trained.images_per_s, "measured", str(file))
            trainer = _with_accumulation(rate, trained.accum_freq, accum_freq)
    for name, recipe in zip(config.generators.names, config.generators.recipes, strict=True):
        if name not in generators:
            raise UserError(
                f"no rate of generator {name}: measure it (polygen-stream bench generators {recipe} --json rates.json) "
                "and give --rates rates.json"
            )
    if trainer is None:
        raise UserError(
            f"no rate of train.model = {config.train.model!r}: measure it (polygen-stream bench trainer --model "
            f"{config.train.model} --json rates.json) and give --rates rates.json"
        )
    gpu = "as measured" if files else reference["gpu"]
    return Rates(gpu, {name: generators[name] for name in config.generators.names}, captions, trainer)


def _with_accumulation(rate: Rate, measured: int, wanted: int) -> Rate:
    """Return a trainer's rate with gradient accumulation, where it was measured without, and the other way round."""
    if (measured > 1) == (wanted > 1):
        return rate
    if wanted > 1:
        how = f"x 3/4, for train.accum_freq = {wanted} encodes twice; {rate.source}"
        return Rate(rate.per_s * ACCUMULATED, rate.basis, how)
    how = f"x 4/3, for it was measured with train.accum_freq = {measured}, which encodes twice; {rate.source}"
    return Rate(rate.per_s / ACCUMULATED, rate.basis, how)
