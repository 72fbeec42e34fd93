"""Text that talks to a language model, or closes the prompt it stands in, where a concept or a caption is expected."""

from __future__ import annotations

import re

_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget)\b.*\b(?:previous|above|all|instructions?|prompt)\b|\bsystem (?:prompt|message)\b"
    r"|\byou are (?:now|an?) |\b(?:respond|reply|answer) (?:with|only)\b|https?:|^\W*(?:system|assistant|user) ?:",
    re.IGNORECASE,
)
# Turns and special tokens of Mistral's and Llama's chat templates and of their kin, and Markdown's code fence.
_MARKUP = re.compile(r"\[/?INST\]|<</?SYS>>|<\|[^|]*\|>|</?s>|```|<[a-z/][^>]*>", re.IGNORECASE)
# What names and captions are written with, of any script; the rest could end a quotation or a turn.
_UNUSUAL = re.compile(r"[^\w '’.,:;!?&+/%°()-]+")


def is_instruction(text: str) -> bool:
    """Whether a text reads like an instruction to a language model, or has a chat template's markup."""
    return bool(_INSTRUCTION.search(text) or _MARKUP.search(text))


def sanitize(text: str) -> str:
    """The text on one line, without characters that could end a prompt's quotation marks or turns."""
    return " ".join(_UNUSUAL.sub(" ", _MARKUP.sub(" ", text)).split())
