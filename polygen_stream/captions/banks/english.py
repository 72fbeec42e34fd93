"""English captions about any concept: the bank for instruction models such as Mistral-7B-Instruct and Llama-3.1-8B."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks import prompts
from polygen_stream.captions.banks.base import CheckResult, Messages, ModelReply
from polygen_stream.captions.banks.concept_filters import ConceptFilter, ExclusionReason
from polygen_stream.captions.verification import axes
from polygen_stream.captions.verification.reply_parser import parse_reply
from polygen_stream.captions.verification.verify import verify

NOT_SHOWN = "it has nothing that the axis could change"


class EnglishBank:
    """The concepts of a metadata.json with all semantic axes.

    Concepts that are too long, are no names, or read like an instruction to a language model are left out;
    `refused` counts them by reason.

    Args:
        entries: the concepts, each once.

    Raises:
        UserError: no entry may stay.
    """

    axes: Sequence[str] = axes.AXIS_NAMES

    def __init__(self, entries: Sequence[str]) -> None:
        self.concepts: Sequence[str]
        self.refused: Counter[ExclusionReason]
        self.concepts, self.refused = ConceptFilter().keep(entries)
        if not self.concepts:
            [(reason, count)] = self.refused.most_common(1) or [("there are none", 0)]
            raise UserError(f"no concept can be asked about ({count:,} times: {reason}): give another bank")

    @property
    def provenance(self) -> Mapping[str, object]:
        concepts = sha256("\n".join(self.concepts).encode()).hexdigest()
        return {
            "bank": "english",
            "concepts": {"entries": len(self.concepts), "sha256": concepts, "left_out": self.refused.total()},
            "prompts": prompts.VERSION,
        }

    def caption_prompt(self, concept: str, axis: str) -> Messages:
        return prompts.caption_prompt(concept, axes.get_axis(axis))

    def negative_prompt(self, text: str, axis: str) -> Messages:
        return prompts.negative_prompt(text, axes.get_axis(axis))

    def check_caption(self, reply: ModelReply, concept: str, axis: str) -> CheckResult:
        parsed = parse_reply(reply.text, reply.finished, concept)
        if parsed.text is not None and not axes.get_axis(axis).shown_in(parsed.text):
            return CheckResult(None, NOT_SHOWN)
        return CheckResult(parsed.text, parsed.reject)

    def check_negative(self, reply: ModelReply, text: str, axis: str) -> CheckResult:
        parsed = parse_reply(reply.text, reply.finished)
        if parsed.text is None:
            return CheckResult(None, parsed.reject)
        reject = verify(text, parsed.text, axes.get_axis(axis))
        return CheckResult(None, reject) if reject else CheckResult(parsed.text)
