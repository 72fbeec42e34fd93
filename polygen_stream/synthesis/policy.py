"""The interface of a synthesis policy, and its shipped ones by name.

A policy of the user's own is a class or function, `synthesis.policy = "module:attribute"`, that is called with the
run's [synthesis] table in the captioner's interpreter and returns a `Policy`. It imports no more than it needs: that
interpreter may have no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from polygen_stream.base.errors import UserError
from polygen_stream.config import SynthesisConfig
from polygen_stream.registry import POLICIES
from polygen_stream.ring import Feedback


@dataclass(frozen=True)
class Weights:
    """How much each axis, concept and generator is wanted: positive, 1 where nothing is named.

    Attributes:
        axes: {name: weight}.
        concepts: {name: weight}, with the names of the feedback.
        generators: {name: weight}.
    """

    axes: Mapping[str, float] = field(default_factory=dict)
    concepts: Mapping[str, float] = field(default_factory=dict)
    generators: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Policy(Protocol):
    """Turns what the trainer measured into what is wanted."""

    def weights(self, feedback: Feedback) -> Weights:
        """Return what is wanted now.

        It is called before every batch of captions. Of two captions one of which weighs twice as much, that one is
        chosen twice as often; the weight of a caption is that of its axis, times that of its concept, times the mean of
        its images' generators.

        Args:
            feedback: the means of the newest steps. A name that no image was measured of is missing.
        """
        ...


def load_policy(config: SynthesisConfig) -> Policy:
    """Return the policy of a config.

    Raises:
        UserError: a policy of the user's own cannot be imported or called, or returns something else.
    """
    policy = POLICIES.load(config.policy)(config)
    if not isinstance(policy, Policy):
        raise UserError(
            f"synthesis.policy = {config.policy!r} returned {type(policy).__name__}, which has no method weights: see "
            "Policy in polygen_stream/synthesis/policy.py"
        )
    return policy
