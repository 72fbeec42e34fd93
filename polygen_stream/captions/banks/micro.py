"""The micro world as a bank: its things, its edits, and validators that read its grammar back exactly."""

from __future__ import annotations

from typing import ClassVar

from polygen_stream.captions.banks.base import CheckResult, Messages, ModelReply
from polygen_stream.micro import language, world
from polygen_stream.micro.verification import caption_fault, negative_fault


class MicroBank:
    concepts = world.THINGS
    axes = tuple(axis for axis, times in language.AXES.items() for _ in range(times))
    provenance: ClassVar = {"bank": "micro", "prompts": language.VERSION}

    def caption_prompt(self, concept: str, axis: str) -> Messages:
        return [{"role": "user", "content": language.caption_prompt(concept, axis)}]

    def negative_prompt(self, text: str, axis: str) -> Messages:
        return [{"role": "user", "content": language.negative_prompt(text, axis)}]

    def check_caption(self, reply: ModelReply, concept: str, axis: str) -> CheckResult:
        return _checked(reply, caption_fault(reply.text, concept, axis))

    def check_negative(self, reply: ModelReply, text: str, axis: str) -> CheckResult:
        return _checked(reply, negative_fault(text, reply.text, axis))


def _checked(reply: ModelReply, fault: str | None) -> CheckResult:
    fault = fault if reply.finished else "endless"
    return CheckResult(None, fault) if fault else CheckResult(reply.text)
