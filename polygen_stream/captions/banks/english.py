"""English captions about any concept: the bank for instruction models such as Mistral-7B-Instruct and Llama-3.1-8B."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks import prompts
from polygen_stream.captions.banks.base import CheckResult, Messages, ModelReply
from polygen_stream.captions.banks.concept_filters import ConceptFilter, ExclusionReason
from polygen_stream.captions.verification.axes import AXIS_NAMES, get_axis
from polygen_stream.captions.verification.reply_parser import parse_reply
from polygen_stream.captions.verification.verify import verify

NOT_SHOWN = "it has nothing that the axis could change"


class EnglishBank:
    """A user's concepts with all semantic axes.

    Concepts that are too long, are not names, or read like an instruction to a language model are left out.

    Attributes:
        concepts: the concepts that stay, in their order.
        refused: how many concepts were left out, by reason.

    Args:
        entries: the concepts, without repetitions.

    Raises:
        UserError: all concepts are left out.
    """

    axes: Sequence[str] = AXIS_NAMES

    def __init__(self, entries: Sequence[str]) -> None:
        self.concepts: Sequence[str]
        self.refused: Counter[ExclusionReason]
        self.concepts, self.refused = ConceptFilter().keep(entries)
        if not self.concepts:
            [(reason, count)] = self.refused.most_common(1) or [("there are none", 0)]
            raise UserError(f"no concept can be asked about ({count:,} times: {reason}): give another bank")

    @property
    def provenance(self) -> Mapping[str, object]:
        """The concepts by their hash, and the version of the prompts."""
        concepts = sha256("\n".join(self.concepts).encode()).hexdigest()
        return {
            "bank": "english",
            "concepts": {"entries": len(self.concepts), "sha256": concepts, "left_out": self.refused.total()},
            "prompts": prompts.VERSION,
        }

    def caption_prompt(self, concept: str, axis: str, whole_scene: bool) -> Messages:
        """Return the prompt for T+, one user turn.

        Raises:
            UserError: unknown axis.
        """
        return prompts.caption_prompt(concept, get_axis(axis), whole_scene)

    def negative_prompt(self, text: str, axis: str) -> Messages:
        """Return the prompt for T-, a system turn and a user turn.

        Raises:
            UserError: unknown axis.
        """
        return prompts.negative_prompt(text, get_axis(axis))

    def check_caption(self, reply: ModelReply, concept: str, axis: str) -> CheckResult:
        """Return T+ if `parse_reply` finds one and it shows something that the axis can edit."""
        parsed = parse_reply(reply.text, reply.finished, concept)
        if parsed.text is not None and not get_axis(axis).can_edit(parsed.text):
            return CheckResult(None, NOT_SHOWN)
        return CheckResult(parsed.text, parsed.reject)

    def check_negative(self, reply: ModelReply, text: str, axis: str) -> CheckResult:
        """Return T- if `parse_reply` finds one and `verify` accepts it as a hard negative of the caption `text`."""
        parsed = parse_reply(reply.text, reply.finished)
        if parsed.text is None:
            return CheckResult(None, parsed.reject)
        reject = verify(text, parsed.text, get_axis(axis))
        return CheckResult(None, reject) if reject else CheckResult(parsed.text)
