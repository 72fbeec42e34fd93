"""What an experiment is: a pool of data, arms that train on parts of it, and the differences that are asked about."""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from polygen_stream.assets.model_configs import absolute_model
from polygen_stream.assets.resources import absolute_recipe, is_recipe_file, recipe_name
from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig, load_config, read_toml
from polygen_stream.generators.recipe import load_recipe

Strings = Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Layer(Table):
    """Pictures of the pool's first captions: `copies` of each, by each of `generators` (all of the pool's, if none)."""

    captions: int = Field(ge=1)
    copies: int = Field(1, ge=1)
    generators: Strings = ()
    negatives: bool = False  # of T- instead of T+


class PoolSpec(Table):
    """Captions, each with a hard negative, and their pictures: a function of this alone, up to numerics."""

    seed: int = Field(ge=0)
    captions: int = Field(ge=1)
    held_out: int = Field(0, ge=0)  # of these captions, the last ones are for measurements
    generators: Strings = Field(min_length=1)
    layers: tuple[Layer, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """Tells pools of different specs apart, and of different content of the user's own recipes."""
        content: dict[str, Any] = self.model_dump(mode="json")
        for table in (content, *content["layers"]):
            table["generators"] = list(map(_identity, table["generators"]))
        text = json.dumps(content, sort_keys=True)
        return f"pool-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def copies(self, generator: str, negatives: bool) -> list[int]:
        """Captions that have each copy by this generator: copy k is there of the first `result[k]` captions."""
        counts: list[int] = []
        for layer in self.layers:
            if layer.negatives == negatives and generator in (layer.generators or self.generators):
                counts += [0] * (layer.copies - len(counts))
                counts[: layer.copies] = [max(have, layer.captions) for have in counts[: layer.copies]]
        return counts


class Arm(Table):
    """One way to spend the budget.

    Args:
        captions: how many of the pool's captions it has.
        positives: n+, images per caption.
        ensembles: sets of generators; the run of seed s uses number s modulo their count. Image j of a caption is by
            generator `permutation[j % m]`, with a permutation of the m generators for every caption.
        images_per_step: if not the experiment's.
        seeds: runs, if not the experiment's.
        buffer: 0 trains on passes over all captions. Else a ring of that many captions through which the pool passes,
            as if it were rendered meanwhile.
        reuse: of a ring: draws per caption that goes in; the rate limiter's samples per insert.
        start: of a ring: captions in it before the first step, if not `buffer`.
        config: keys of the run config and their values, over the experiment's.
    """

    name: str
    captions: int = Field(ge=1)
    positives: int = Field(ge=1)
    ensembles: Annotated[
        tuple[Strings, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v), Field(min_length=1)
    ]
    images_per_step: int = Field(0, ge=0)
    seeds: int = Field(0, ge=0)
    buffer: int = Field(0, ge=0)
    reuse: int = Field(0, ge=0)
    start: int = Field(0, ge=0)
    config: dict[str, Any] = {}

    def ensemble(self, seed: int) -> tuple[str, ...]:
        return self.ensembles[seed % len(self.ensembles)]

    @property
    def images(self) -> int:
        """Positive images that have to be rendered for it."""
        return self.captions * self.positives


class Contrast(Table):
    """A difference that the experiment was made for: `arm` minus `against`, paired by seed."""

    arm: str
    against: str
    question: str


class Experiment(Table):
    """A grid of runs.

    Args:
        steps: optimizer steps of every run.
        images_per_step: positive and negative images of a batch, about; a batch has that many divided by n+ texts.
        baseline: the arm that Delta_MTL is relative to.
        learning_rates: peaks that every arm is tried with, on the validation split; the best one is its own.
        tuning_seed: of those trials; no seed of the comparison.
        seeds: runs of each arm with its learning rate.
        config: keys of the run config and their values, for all arms.
        text: what a reader of the page has to know, Markdown.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    text: str = ""
    pool: PoolSpec
    steps: int = Field(ge=1)
    images_per_step: int = Field(ge=2)
    baseline: str
    learning_rates: Annotated[tuple[float, ...], BeforeValidator(tuple), Field(min_length=1)]
    tuning_seed: int = 1000
    seeds: int = Field(3, ge=2)
    config: dict[str, Any] = {}
    arms: tuple[Arm, ...] = Field(min_length=1)
    contrasts: tuple[Contrast, ...] = ()
    plot: Literal["grid", "bars"] = "bars"

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def texts(self, arm: Arm) -> int:
        """Texts of a batch, T+ and T- together."""
        return (arm.images_per_step or self.images_per_step) // arm.positives

    def run_config(self, arm: Arm, lr: float, seed: int) -> RunConfig:
        """The config that a run of the arm trains under."""
        texts = self.texts(arm)
        values = {
            "seed": seed,
            "curriculum.end": 0.0,
            **self.config,
            **arm.config,
            "train.lr": lr,
            "train.steps": self.steps,
            "train.batch": texts,
            "generators.recipes": list(arm.ensemble(seed)),
            "generators.positives": arm.positives,
            "generators.negatives": arm.positives,
            # A pool is no ring; its size must not be what refuses a batch.
            "ring.slots": 64 * texts * arm.positives,
            "ring.min_fill": texts,
            "captions.target": arm.captions,
        }
        return load_config("micro", {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()})


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment.

    An experiment without a [pool] table of its own takes `pool.toml` of its folder. Relative paths of
    recipes and models are relative to the experiment's folder.

    Raises:
        UserError: Anything wrong, in one line that names the file, the key and the remedy.
    """
    values = read_toml(path)
    if "pool" not in values:
        values["pool"] = read_toml(path.parent / "pool.toml")
    values = _absolute(values, path.parent)
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"]))
        hint = ""
        if first["type"] == "extra_forbidden":
            near = get_close_matches(str(first["loc"][-1]), _keys(first["loc"]), n=1, cutoff=0)
            hint = f": did you mean {near[0]}?"
        raise UserError(f"{path}: {where}: {first['msg']}{hint}") from None
    try:
        _check(experiment)
    except UserError as problem:
        raise UserError(f"{path}: {problem}") from None
    return experiment


def _absolute(value: Any, folder: Path, key: str = "") -> Any:
    """Return an experiment's values with the recipes and models in them made absolute."""
    if isinstance(value, dict):
        return {name: _absolute(inner, folder, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_absolute(inner, folder, key) for inner in value]
    if not isinstance(value, str):
        return value
    if key == "train.model":
        return absolute_model(value, folder)
    return absolute_recipe(value, folder) if key in ("generators", "ensembles") else value


def _identity(recipe: str) -> str:
    """Return what tells a recipe from others: its name, and of a file its content and where its weights lie too."""
    if not is_recipe_file(recipe):
        return recipe
    return f"{recipe_name(recipe)}:{load_recipe(recipe).model_dump_json()}"


def draws_negatives(config: RunConfig) -> bool:
    return max(config.curriculum.start, config.curriculum.end) > 0


def _check(experiment: Experiment) -> None:
    names = [arm.name for arm in experiment.arms]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"two arms are called {twice.pop()!r}: give each a name of its own")
    wanted = [experiment.baseline, *(name for c in experiment.contrasts for name in (c.arm, c.against))]
    for name in wanted:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0)
            raise UserError(f"there is no arm {name!r}: did you mean {near[0]!r}?")
    pool = experiment.pool
    for recipe in pool.generators:
        load_recipe(recipe)
    for layer in pool.layers:
        if layer.captions > pool.captions:
            raise UserError(f"a layer has {layer.captions} captions, but the pool only {pool.captions}")
    for arm in experiment.arms:
        if bool(arm.buffer) != bool(arm.reuse):
            raise UserError(f"arm {arm.name}: buffer is {arm.buffer} and reuse {arm.reuse}; a ring needs both")
        if arm.start > arm.buffer:
            raise UserError(f"arm {arm.name}: start is {arm.start}, more than the {arm.buffer} captions its ring holds")
        texts = experiment.texts(arm)
        if texts > arm.captions:
            raise UserError(f"arm {arm.name}: a batch has {texts} texts, but the arm {arm.captions} captions")
        config = experiment.run_config(arm, experiment.learning_rates[0], experiment.tuning_seed)
        polarities = (False, True) if draws_negatives(config) else (False,)
        if arm.captions > pool.captions - pool.held_out:
            raise UserError(
                f"arm {arm.name} has {arm.captions} captions, but the pool {pool.captions}, {pool.held_out} of them"
                " held out"
            )
        if arm.buffer and draws_negatives(config):
            raise UserError(f"arm {arm.name} goes through a ring and has hard negatives: set curriculum.end = 0")
        if arm.buffer and (arm.start or arm.buffer) < texts:
            raise UserError(
                f"arm {arm.name}: a batch has {texts} texts, but its ring {arm.start or arm.buffer} at the first step"
            )
        for ensemble in arm.ensembles:
            for name in ensemble:
                for negatives in polarities:
                    _check_images(arm, pool, name, -(-arm.positives // len(ensemble)), negatives)


def _check_images(arm: Arm, pool: PoolSpec, generator: str, copies: int, negatives: bool) -> None:
    have = pool.copies(generator, negatives)
    enough = len(have) >= copies and min(have[:copies]) >= arm.captions
    if not enough:
        kind = "negatives" if negatives else "positives"
        raise UserError(
            f"arm {arm.name} needs {copies} {kind} by {generator} of {arm.captions} captions, and the pool has {have}"
            " (captions with copy 0, 1, ...): add a layer to the pool"
        )


def _keys(location: tuple[int | str, ...]) -> list[str]:
    tables = {"arms": Arm, "contrasts": Contrast, "pool": PoolSpec, "layers": Layer}
    inner = [tables[part] for part in location[:-1] if part in tables]
    return list((inner[-1] if inner else Experiment).model_fields)
