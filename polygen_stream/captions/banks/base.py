"""What a bank of concepts brings beside its words: how models are asked about them and how replies are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Messages = list[dict[str, str]]  # a chat: {"role": ..., "content": ...}


@dataclass(frozen=True)
class ModelReply:
    """What a language model replied; `finished` is False where a token limit ended it.

    `fault` is a short fixed phrase where there is no reply at all, e.g. "timeout".
    """

    text: str
    finished: bool
    fault: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """The caption of a reply, or why there is none: `fault` is a short fixed phrase, so that faults can be counted."""

    text: str | None
    fault: str | None = None


class Bank(Protocol):
    """Concepts, axes, prompts and validators that belong together."""

    concepts: Sequence[str]
    axes: Sequence[str]

    @property
    def provenance(self) -> Mapping[str, object]:
        """What a journal says of it: which concepts, and which version of the prompts."""
        ...

    def caption_prompt(self, concept: str, axis: str) -> Messages:
        """The prompt for T+."""
        ...

    def negative_prompt(self, text: str, axis: str) -> Messages:
        """The prompt for T-."""
        ...

    def check_caption(self, reply: ModelReply, concept: str, axis: str) -> CheckResult:
        """T+ if the reply is one caption that has the concept and that the axis could edit."""
        ...

    def check_negative(self, reply: ModelReply, text: str, axis: str) -> CheckResult:
        """T- if the reply is the caption with one thing changed, on the axis, and no paraphrase."""
        ...
