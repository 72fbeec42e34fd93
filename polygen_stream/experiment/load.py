"""Read an experiment file and check that its arms can be run on its pool."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polygen_stream.assets.model_configs import absolute_model
from polygen_stream.assets.resources import absolute_recipe
from polygen_stream.base.errors import UserError
from polygen_stream.base.toml_files import read_toml
from polygen_stream.base.validation import explain
from polygen_stream.config import asks_for_negatives
from polygen_stream.experiment.spec import PROBE_CAPTIONS, Arm, Experiment, PoolSpec
from polygen_stream.generators.recipe import load_recipe


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment.

    An experiment without a [pool] table of its own takes `pool.toml` of its folder. Relative paths of recipes and
    models are relative to the experiment's folder.

    Raises:
        UserError: anything wrong, in one line that names the file, the key and the remedy.
    """
    values = read_toml(path, "experiment")
    if "pool" not in values:
        values["pool"] = read_toml(path.parent / "pool.toml", "pool of the experiment")
    values = _absolute(values, path.parent)
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as problem:
        raise UserError(f"{path}: {explain(problem, Experiment)}") from None
    try:
        _check_names(experiment)
        _check_pool(experiment.pool)
        for arm in experiment.arms:
            _check_arm(experiment, arm)
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


def _check_names(experiment: Experiment) -> None:
    names = [arm.name for arm in experiment.arms]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"two arms are called {twice.pop()!r}: give each a name of its own")
    wanted = [experiment.baseline, *(name for c in experiment.contrasts for name in (c.arm, c.against))]
    for name in wanted:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0)
            raise UserError(f"there is no arm {name!r}: did you mean {near[0]!r}?")


def _check_pool(pool: PoolSpec) -> None:
    for recipe in pool.generators:
        load_recipe(recipe)
    if pool.has_probe and pool.held_out < PROBE_CAPTIONS:
        raise UserError(
            f"pool.held_out = {pool.held_out} is too few captions for the generator probe: {PROBE_CAPTIONS} or more, or"
            " 0 for none"
        )
    for layer in pool.layers:
        if layer.captions > pool.trainable:
            raise UserError(
                f"a layer has {layer.captions} captions, but the pool {pool.captions}, {pool.held_out} of them held out"
            )


def _check_arm(experiment: Experiment, arm: Arm) -> None:
    pool, texts = experiment.pool, experiment.texts(arm)
    _check_ring(arm)
    if texts > arm.captions:
        raise UserError(f"arm {arm.name}: a batch has {texts} texts, but the arm {arm.captions} captions")
    config = experiment.run_config(arm, experiment.learning_rates[0], experiment.tuning_seed)
    negatives = asks_for_negatives(config)
    if config.ring.catch_up > 1 and arm.buffer < arm.captions:
        raise UserError(
            f"arm {arm.name}: ring.catch_up = {config.ring.catch_up:g} needs a ring that holds all {arm.captions}"
            f" captions, and its buffer is {arm.buffer}"
        )
    if config.synthesis.policy != "uniform" and not arm.supply:
        raise UserError(
            f"arm {arm.name}: synthesis.policy = {config.synthesis.policy!r} has nothing to choose from: set supply"
        )
    wanted = max(arm.captions, arm.supply)
    if wanted > pool.trainable:
        raise UserError(
            f"arm {arm.name} has {wanted} captions, but the pool {pool.captions}, {pool.held_out} of them held out"
        )
    if arm.buffer:
        _check_ring_batch(arm, texts, config.curriculum.kind)
    for ensemble in arm.ensembles:
        for name in ensemble:
            for polarity in (False, True) if negatives else (False,):
                _check_images(arm, pool, name, -(-arm.images_per_caption // len(ensemble)), polarity)


def _check_ring(arm: Arm) -> None:
    if 0 < arm.views < arm.positives:
        raise UserError(f"arm {arm.name}: views is {arm.views}, fewer than positives, the {arm.positives} of a batch")
    if bool(arm.buffer) != bool(arm.reuse):
        raise UserError(f"arm {arm.name}: buffer is {arm.buffer} and reuse {arm.reuse}; a ring needs both")
    if arm.start > arm.buffer:
        raise UserError(f"arm {arm.name}: start is {arm.start}, more than the {arm.buffer} captions its ring holds")
    if arm.supply and not arm.buffer >= arm.captions:
        raise UserError(
            f"arm {arm.name} chooses {arm.captions} captions of a supply, for a ring of {arm.buffer}: set buffer to "
            f"{arm.captions} or more"
        )
    if 0 < arm.supply < arm.captions:
        raise UserError(f"arm {arm.name}: supply is {arm.supply}, fewer than the {arm.captions} captions to be chosen")


def _check_ring_batch(arm: Arm, texts: int, kind: str) -> None:
    if kind != "share":
        raise UserError(f"arm {arm.name} goes through a ring, which needs curriculum.kind = 'share', and has {kind!r}")
    if (arm.start or arm.buffer) < texts:
        raise UserError(
            f"arm {arm.name}: a batch has {texts} texts, but its ring {arm.start or arm.buffer} at the first step"
        )


def _check_images(arm: Arm, pool: PoolSpec, generator: str, copies: int, negatives: bool) -> None:
    have, wanted = pool.copies(generator, negatives), max(arm.captions, arm.supply)
    enough = len(have) >= copies and min(have[:copies]) >= wanted
    if not enough:
        kind = "negatives" if negatives else "positives"
        raise UserError(
            f"arm {arm.name} needs {copies} {kind} by {generator} of {wanted} captions, and the pool has {have}"
            " (captions with copy 0, 1, ...): add a layer to the pool"
        )
