"""The micro world as a bank: its things, its edits, and validators that read its grammar back exactly."""

from __future__ import annotations

from typing import ClassVar

from polygen_stream.captions.banks.base import Checked, Completion, Messages
from polygen_stream.micro import language, world
from polygen_stream.micro.verification import caption_fault, negative_fault


class MicroBank:
    concepts = world.THINGS
    axes = tuple(axis for axis, times in language.AXES.items() for _ in range(times))
    provenance: ClassVar = {"bank": "micro", "prompts": language.VERSION}

    def ask_caption(self, concept: str, axis: str) -> Messages:
        return [{"role": "user", "content": language.caption_prompt(concept, axis)}]

    def ask_negative(self, text: str, axis: str) -> Messages:
        return [{"role": "user", "content": language.negative_prompt(text, axis)}]

    def check_caption(self, reply: Completion, concept: str, axis: str) -> Checked:
        return _checked(reply, caption_fault(reply.text, concept, axis))

    def check_negative(self, reply: Completion, text: str, axis: str) -> Checked:
        return _checked(reply, negative_fault(text, reply.text, axis))


def _checked(reply: Completion, fault: str | None) -> Checked:
    fault = fault if reply.finished else "endless"
    return Checked(None, fault) if fault else Checked(reply.text)
