"""Rates of one device: how fast it renders, writes captions and trains, as measured by `bench` or from references.

Proposals and simulations both start from a `Rates`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polygen_stream.assets.model_configs import model_name
from polygen_stream.assets.resources import is_recipe_file
from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig

REFERENCE = Path(__file__).with_name("reference_rates.toml")
# A backward pass costs two forward passes. With gradient accumulation every image is encoded once more, for the loss of
# the whole batch (train/grad_cache.py): four parts of work instead of three. No rate is measured with it.
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

    The trainer's is that of its model, less what gradient accumulation costs.

    Args:
        config: The config.
        files: JSON of `bench generators`, `bench captions` or `bench trainer`; later ones win.

    Raises:
        UserError: A file is none of these, or neither files nor references have a rate for a role.
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
    for file in files:
        measured = _read(file)
        generators |= {name: Rate(rate, "measured", str(file)) for name, rate in _generators(measured).items()}
        if (rate := _captions(measured, config.captions.source)) is not None:
            captions = Rate(rate, "measured", str(file))
        if (rate := _trainer(measured, model)) is not None:
            trainer = Rate(rate, "measured", str(file))
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
    if config.train.accum_freq > 1:
        how = f"x 3/4, for train.accum_freq = {config.train.accum_freq} encodes twice; {trainer.source}"
        trainer = Rate(trainer.per_s * ACCUMULATED, trainer.basis, how)
    gpu = "as measured" if files else reference["gpu"]
    return Rates(gpu, {name: generators[name] for name in config.generators.names}, captions, trainer)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UserError(f"--rates {file}: {problem.strerror}") from None
    except ValueError as problem:
        raise UserError(f"--rates {file} is no JSON: {problem}") from None
    if not isinstance(found, dict) or not {"results", "step_ms"} & found.keys():
        raise UserError(
            f"--rates {file} is not what `bench generators`, `bench captions` or `bench trainer` write with --json"
        )
    return found


def _generators(measured: Mapping[str, Any]) -> dict[str, float]:
    """Return the rate of each generator's fastest backend and batch size."""
    best: dict[str, float] = {}
    for row in measured.get("results", []):
        if "generator" in row:
            best[row["generator"]] = max(row["images_per_s"], best.get(row["generator"], 0.0))
    return best


def _captions(measured: Mapping[str, Any], source: str) -> float | None:
    """Return a caption source's best rate over the concurrencies; None if it was not measured."""
    rows = [row for row in measured.get("results", []) if row.get("source") == source]
    return max((row["captions_per_s"]["median"] for row in rows), default=None)


def _trainer(measured: Mapping[str, Any], model: str) -> float | None:
    """Return the images per second of this project's loop; None if another model was measured, or none."""
    if "step_ms" not in measured or measured["model"] != model:
        return None
    return measured["batch"] / measured["step_ms"]["ours"] * 1e3
