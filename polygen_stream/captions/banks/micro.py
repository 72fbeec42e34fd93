"""The micro world as a bank: its things, its edits, and checks that parse captions exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polygen_stream.captions.banks.base import CheckResult, Messages, ModelReply
from polygen_stream.micro import language, world
from polygen_stream.micro.verification import caption_fault, negative_fault


class MicroBank:
    """The things of the micro world, and its edits as axes, each listed as often as `language.AXES` weighs it."""

    concepts: Sequence[str] = world.THINGS
    axes: Sequence[str] = tuple(axis for axis, times in language.AXES.items() for _ in range(times))

    @property
    def provenance(self) -> Mapping[str, object]:
        """The version of the prompts."""
        return {"bank": "micro", "prompts": language.VERSION}

    def caption_prompt(self, concept: str, axis: str, whole_scene: bool) -> Messages:
        """Return the prompt for T+, one user turn."""
        return [{"role": "user", "content": language.caption_prompt(concept, axis, whole_scene)}]

    def negative_prompt(self, text: str, axis: str) -> Messages:
        """Return the prompt for T-, one user turn."""
        return [{"role": "user", "content": language.negative_prompt(text, axis)}]

    def check_caption(self, reply: ModelReply, concept: str, axis: str) -> CheckResult:
        """Return T+ if `caption_fault` finds no fault."""
        return _checked(reply, caption_fault(reply.text, concept, axis))

    def check_negative(self, reply: ModelReply, text: str, axis: str) -> CheckResult:
        """Return T- if `negative_fault` finds no fault."""
        return _checked(reply, negative_fault(text, reply.text, axis))


def _checked(reply: ModelReply, fault: str | None) -> CheckResult:
    fault = fault if reply.finished else "endless"
    return CheckResult(None, fault) if fault else CheckResult(reply.text)
