"""The interface of a bank: concepts and axes, prompts for language models, and checks of their replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Messages = list[dict[str, str]]  # a chat: {"role": ..., "content": ...}


@dataclass(frozen=True)
class ModelReply:
    """The reply of a language model to one prompt.

    Attributes:
        text: the reply; "" if there is none.
        finished: False if the token limit ended the reply.
        fault: if there is no reply, why, as a short fixed phrase, e.g. "timeout".
    """

    text: str
    finished: bool
    fault: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """The caption that a reply contains, or why it contains none.

    Attributes:
        text: the caption, or None.
        fault: if there is no caption, why, as a short fixed phrase, so that faults can be counted.
    """

    text: str | None
    fault: str | None = None


class Bank(Protocol):
    """Concepts and axes, with the prompts and the checks that belong to them."""

    @property
    def concepts(self) -> Sequence[str]:
        """What captions are about."""
        ...

    @property
    def axes(self) -> Sequence[str]:
        """Along what hard negatives differ; an axis that is listed twice is drawn twice as often."""
        ...

    @property
    def provenance(self) -> Mapping[str, object]:
        """JSON object that the journal records about the bank: its concepts and the version of its prompts."""
        ...

    def caption_prompt(self, concept: str, axis: str, whole_scene: bool) -> Messages:
        """Return the prompt for T+: of a whole scene with the concept, or terse, of the concept and the axis alone."""
        ...

    def negative_prompt(self, text: str, axis: str) -> Messages:
        """Return the prompt for T-, the edit of the caption `text` along the axis."""
        ...

    def check_caption(self, reply: ModelReply, concept: str, axis: str) -> CheckResult:
        """Return T+ if the reply is a single caption that names the concept and that the axis can edit."""
        ...

    def check_negative(self, reply: ModelReply, text: str, axis: str) -> CheckResult:
        """Return T- if the reply is the caption with one change, on the axis, that is not a paraphrase."""
        ...
