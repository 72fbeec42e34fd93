"""The classes of diffusers that a recipe names, and whether they have its parts and take its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import diffusers
from diffusers.configuration_utils import ConfigMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from polygen_stream.base.errors import UserError
from polygen_stream.base.validation import did_you_mean
from polygen_stream.generators.recipe import Recipe


def diffusers_classes(recipe: Recipe) -> tuple[type[DiffusionPipeline], type[ConfigMixin] | None]:
    """Return the classes of diffusers that a recipe names: its pipeline, and its scheduler if it names one.

    Raises:
        UserError: diffusers has no such class, the pipeline has no such part or takes no such argument, or the
            scheduler takes no such argument.
    """
    pipeline_class = getattr(diffusers, recipe.pipeline, None)
    if not (isinstance(pipeline_class, type) and issubclass(pipeline_class, DiffusionPipeline)):
        raise UserError(f"{recipe.origin}: diffusers has no pipeline {recipe.pipeline!r}")
    check_arguments(recipe, pipeline_class)
    if recipe.scheduler is None:
        return pipeline_class, None
    name = recipe.scheduler.name
    scheduler = getattr(diffusers, name, None)
    mixins = (SchedulerMixin, ConfigMixin)
    if not (isinstance(scheduler, type) and all(issubclass(scheduler, mixin) for mixin in mixins)):
        raise UserError(f"{recipe.origin}: scheduler.class: diffusers has no scheduler {name!r}")
    # diffusers would say so in its log, and sample without them
    _check(recipe, "scheduler.arguments", recipe.scheduler.arguments, f"{name} takes no", scheduler.__init__)
    return pipeline_class, scheduler


def check_arguments(recipe: Recipe, pipeline: type[DiffusionPipeline]) -> None:
    """Refuse sampling arguments and parts in a recipe that its pipeline does not have and would ignore.

    Raises:
        UserError: There is one; the message names the nearest that the pipeline has.
    """
    name, call, parts = pipeline.__name__, pipeline.__call__, pipeline.__init__
    _check(recipe, "sampling", recipe.sampling, f"{name} takes no", call)
    engine = recipe.engine
    named = {"dtypes": recipe.dtypes, "without": recipe.without, "parameters": recipe.parameters} | (
        {
            "engine.parts": engine.parts,
            "engine.bf16": engine.bf16,
            "engine.float32_attention": engine.float32_attention,
        }
        if engine
        else {}
    )
    for key, values in named.items():
        _check(recipe, key, values, f"{name} has no part", parts)


def _check(recipe: Recipe, key: str, names: Iterable[str], refusal: str, function: Callable[..., Any]) -> None:
    """Refuse names that are no named parameters of a function; one that has none, only **kwargs, says nothing."""
    parameters = list(inspect.signature(function).parameters.values())
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    # Of a **kwargs beside names diffusers reads what it has given up, and ignores the rest.
    known = [each.name for each in parameters if each.kind not in variable and each.name != "self"]
    unknown = sorted(set(names) - set(known))
    if known and unknown:
        raise UserError(f"{recipe.origin}: {key}: {refusal} {unknown[0]}{did_you_mean(unknown[0], known)}")
