"""Generator recipes: their terms of use, and whether their weights are on this machine."""

from __future__ import annotations

from pathlib import Path

from polygen_stream.assets.resources import recipe_names
from polygen_stream.config import RunConfig
from polygen_stream.doctor.finding import Finding
from polygen_stream.generators.recipe import Recipe, load_recipe


def examine_micro_weights(config: RunConfig) -> Finding:
    """Return whether the weights of a config's generators, which ship with the package, are there."""
    recipes = [load_recipe(name) for name in config.generators.recipes]
    absent = [recipe.name for recipe in recipes if not (Path(recipe.source) / "model_index.json").is_file()]
    if absent:
        commands = " && ".join(_train_micro(name.partition("/")[2]) for name in absent)
        found = f"not here: {', '.join(absent)}"
        return Finding("weights", "micro generators", "problem", found, "train them again", commands)
    return Finding("weights", "micro generators", "ok", ", ".join(recipe.name for recipe in recipes))


def examine_recipes() -> list[Finding]:
    """Return a finding per shipped recipe: its terms of use, and whether its weights are here."""
    return [_recipe(load_recipe(name)) for name in recipe_names()]


def _recipe(recipe: Recipe) -> Finding:
    terms = [f"license {recipe.license}"]
    terms += ["NON-COMMERCIAL"] if recipe.non_commercial else []
    terms += ["gated"] if recipe.gated else []
    if recipe.folder is not None:
        return Finding("recipes", recipe.name, "ok", f"{', '.join(terms)}; weights here")
    found = f"{', '.join(terms)}; weights not here"
    if recipe.weights.startswith("package:"):
        command = _train_micro(recipe.weights.partition(":")[2])
        return Finding("recipes", recipe.name, "missing", found, "train it again", command)
    advice = "download the weights"
    if recipe.gated:
        advice = f"agree to the terms at https://huggingface.co/{recipe.weights}, `hf auth login`, then download"
    return Finding("recipes", recipe.name, "missing", found, advice, recipe.download)


def _train_micro(name: str) -> str:
    return f"python tools/train_micro.py {name}"
