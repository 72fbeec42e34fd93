"""Guards prompts against concepts and captions that contain instructions or the markup of chat templates."""

from __future__ import annotations

import re

_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget)\b.*\b(?:previous|above|all|instructions?|prompt)\b|\bsystem (?:prompt|message)\b"
    r"|\byou are (?:now|an?) |\b(?:respond|reply|answer) (?:with|only)\b|https?:|^\W*(?:system|assistant|user) ?:",
    re.IGNORECASE,
)
# Turns and special tokens of Mistral's, Llama's and similar chat templates, HTML tags, and Markdown's code fence.
_MARKUP = re.compile(r"\[/?INST\]|<</?SYS>>|<\|[^|]*\|>|</?s>|```|<[a-z/][^>]*>", re.IGNORECASE)
# All but letters and digits of any script and common punctuation: it could end a quotation or a turn.
_UNUSUAL = re.compile(r"[^\w '’.,:;!?&+/%°()-]+")


def is_instruction(text: str) -> bool:
    """Return whether a text reads like an instruction to a language model, or contains a chat template's markup."""
    return bool(_INSTRUCTION.search(text) or _MARKUP.search(text))


def sanitize(text: str) -> str:
    """Return the text on one line, without characters that could end a quotation or a turn of the prompt."""
    return " ".join(_UNUSUAL.sub(" ", _MARKUP.sub(" ", text)).split())
