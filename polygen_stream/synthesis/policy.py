"""The interface of a synthesis policy, and its shipped ones by name.

A policy of the user's own is a class or function, `synthesis.policy = "module:attribute"`, that is called with the
run's [synthesis] table in the captioner's interpreter and returns a `Policy`. It imports no more than it needs: that
interpreter may have no torch.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Protocol, runtime_checkable

from polygen_stream.base.errors import UserError
from polygen_stream.config import SynthesisConfig
from polygen_stream.registry import POLICIES
from polygen_stream.ring import Feedback

LEAST, MOST = 1e-6, 1e6  # products of three are finite, and none is 0


@dataclass(frozen=True)
class Weights:
    """How much each axis, concept and generator is wanted: LEAST to MOST, and 1 where nothing is named.

    Attributes:
        axes: {name: weight}.
        concepts: {name: weight}, with the names of the feedback.
        generators: {name: weight}.
    """

    axes: Mapping[str, float] = field(default_factory=dict)
    concepts: Mapping[str, float] = field(default_factory=dict)
    generators: Mapping[str, float] = field(default_factory=dict)


NO_WEIGHTS = Weights()


@runtime_checkable
class Policy(Protocol):
    """Turns what the trainer measured into what is wanted."""

    def weights(self, feedback: Feedback) -> Weights:
        """Return what is wanted now.

        It is called before every batch of captions. Of two candidates for the next caption, one that weighs twice as
        much is twice as likely to be taken; the weight of a caption is that of its axis, times that of its concept,
        times the mean of its images' generators. What no candidate has cannot be taken, however much it weighs.

        Args:
            feedback: the means of the newest steps. A name that no image was measured of is missing.
        """
        ...


def load_policy(config: SynthesisConfig) -> Policy:
    """Return the policy of a config.

    Raises:
        UserError: a policy of the user's own cannot be imported, fails when it is called, or is something else.
    """
    factory, where = POLICIES.load(config.policy), f"synthesis.policy = {config.policy!r}"
    try:
        policy = factory(config)
    except Exception as problem:  # whatever the user's code does when it is called
        raise UserError(f"{where}: calling it fails: {_said(problem)}") from problem
    if not isinstance(policy, Policy):
        raise UserError(
            f"{where} returned {type(policy).__name__}, which has no method weights: see {POLICIES.contract}"
        )
    return policy


def ask(policy: Policy, feedback: Feedback, config: SynthesisConfig) -> Weights:
    """Return what a policy wants, with all weights as float.

    Raises:
        UserError: it fails, or returns something else than weights that are numbers from LEAST to MOST.
    """
    where = f"synthesis.policy = {config.policy!r}"
    try:
        given = policy.weights(feedback)
    except Exception as problem:  # whatever the user's code does when it is called
        raise UserError(f"{where}: weights fails: {_said(problem)}") from problem
    if not isinstance(given, Weights) or not all(isinstance(of, Mapping) for of in vars(given).values()):
        raise UserError(
            f"{where}: weights returned {given!r:.80}, which is no Weights of three mappings: see {POLICIES.contract}"
        )
    return Weights(**{factor: _checked(where, factor, of) for factor, of in vars(given).items()})


def _checked(where: str, factor: str, weights: Mapping[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        number = isinstance(weight, Real) and not isinstance(weight, bool)
        if not isinstance(name, str) or not number or not LEAST <= weight <= MOST:
            raise UserError(
                f"{where} gave {name!r} of {factor} the weight {weight!r:.40}: names are strings, weights numbers from "
                f"{LEAST:g} to {MOST:g}, and what is not named weighs 1"
            )
    return {name: float(weight) for name, weight in weights.items()}


def _said(problem: Exception) -> str:
    """Return an error of the user's code, with the line of that code, which this module called."""
    frames = traceback.extract_tb(problem.__traceback__)
    of_user = frames[min(1, len(frames) - 1)]
    return f"{type(problem).__name__}: {problem} ({of_user.filename}, line {of_user.lineno})"
