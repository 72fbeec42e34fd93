"""Extracts the caption from a language model's reply, and rejects every reply that is not exactly one caption.

SynthCLIP drops replies with a line break and strips quotation marks (hammoudhasan/SynthCLIP:
TextGen/substr_matching.py); the other rules are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from polygen_stream.captions.verification.injection import is_instruction
from polygen_stream.captions.verification.words import content_stems, split_words

FEWEST_WORDS, MOST_WORDS = 3, 20
MOST_CHARACTERS = 400

_QUOTES = ('""', "''", "“”", "‘’", "«»")
_REFUSAL = re.compile(
    r"^\W*(?:(?:i'?m |i am )?(?:so |very )?sorry\b|i (?:cannot|can ?not|can't|won't|will not|am not able|am unable)\b"
    r"|i'm (?:not able|unable)\b|as an (?:ai|artificial)\b|unfortunately\b|i (?:do not|don't) (?:feel|have|know)\b"
    r"|it (?:is|would be) (?:not |in)appropriate\b)",
    re.IGNORECASE,
)
_TALK = re.compile(
    r"^\W*(?:sure\b|certainly\b|of course\b|okay\b|ok\b|here(?:'s| is| are)\b"
    r"|(?:the )?(?:new |edited |changed |image |one )*captions?\W*(?:is\b|:|\d)"
    r"|(?:changed|answer|output|note|example) ?:|\d+[.)] )",
    re.IGNORECASE,
)


class ReplyReject(StrEnum):
    """Why a reply was rejected. The journal records these texts."""

    EMPTY = "it says nothing"
    ENDLESS = "the model did not come to an end"
    LINES = "more than one line"
    BROKEN = "characters that are no text"
    INSTRUCTION = "it talks to a language model or has a template's markup"
    REFUSAL = "the model refuses"
    TALK = "it talks about the caption instead of giving it"
    SHORT = f"fewer than {FEWEST_WORDS} words"
    LONG = f"more than {MOST_WORDS} words"
    CONCEPT = "the concept is not in it"


@dataclass(frozen=True)
class ParsedReply:
    """The caption of a reply, or why there is none."""

    text: str | None
    reject: ReplyReject | None = None


def parse_reply(reply: str, finished: bool, concept: str | None = None) -> ParsedReply:
    """Return the caption of a reply, without surrounding quotation marks.

    Args:
        reply: the text of the reply.
        finished: False if the token limit ended the reply.
        concept: what the caption must name, in any inflection; None for T-.
    """
    text = _unquoted(reply.strip())
    reject = _reject(text, finished, concept)
    return ParsedReply(text) if reject is None else ParsedReply(None, reject)


def _reject(text: str, finished: bool, concept: str | None) -> ReplyReject | None:
    words = split_words(text)
    if not words:
        return ReplyReject.EMPTY if finished else ReplyReject.ENDLESS
    if not finished or len(text) > MOST_CHARACTERS:
        return ReplyReject.ENDLESS
    if len(text.splitlines()) > 1:
        return ReplyReject.LINES
    if not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text:
        return ReplyReject.BROKEN
    if is_instruction(text):
        return ReplyReject.INSTRUCTION
    if _REFUSAL.search(text):
        return ReplyReject.REFUSAL
    if _TALK.search(text):
        return ReplyReject.TALK
    if not FEWEST_WORDS <= len(words) <= MOST_WORDS:
        return ReplyReject.SHORT if len(words) < FEWEST_WORDS else ReplyReject.LONG
    if concept is not None and not _names(text, concept):
        return ReplyReject.CONCEPT
    return None


def _names(text: str, concept: str) -> bool:
    """Return whether the text contains the words of the concept next to each other, in any inflection."""
    for words in (content_stems, split_words):  # a concept such as "there" has no content stems
        if words(concept):
            return f" {' '.join(words(concept))} " in f" {' '.join(words(text))} "
    return concept in text


def _unquoted(text: str) -> str:
    """Return the text without quotation marks around the whole of it."""
    if len(text) >= 2 and text[0] + text[-1] in _QUOTES:
        return text[1:-1].strip()
    return text
