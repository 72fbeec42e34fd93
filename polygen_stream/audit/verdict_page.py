"""The page on which a person judges hard negatives: one HTML file that needs neither network nor server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from difflib import SequenceMatcher
from itertools import groupby

from polygen_stream.audit.verdicts import FIELDS, Question
from polygen_stream.base.seeding import key
from polygen_stream.captions.verification.difference import common_prefix_length
from polygen_stream.report.html import render

Piece = tuple[str, bool]  # words, and whether the other caption has others in their place


def verdict_page(questions: Sequence[Question], title: str) -> str:
    """The page as HTML."""
    asked = [asdict(question) for question in questions]
    return render(
        "verdicts.html",
        title=title,
        questions=[(question, *marked(question.caption, question.negative)) for question in questions],
        asked=asked,
        fields=FIELDS,
        # Under this name a browser keeps the verdicts until they are saved.
        name=f"verdicts-{key(title, str(asked)):016x}",
    )


def marked(caption: str, negative: str) -> tuple[list[Piece], list[Piece]]:
    """Both captions in pieces that alternate between what they have in common and what they have not."""
    first, second = caption.split(), negative.split()
    plain = [[word.casefold().strip(".,;:!?") for word in words] for words in (first, second)]
    # What stands at the beginning or the end of both is no part of the edit, though a swap could match it elsewhere.
    start = common_prefix_length(*plain)
    end = common_prefix_length(*(words[start:][::-1] for words in plain))
    inside = [words[start : len(words) - end] for words in plain]
    changed = [[True] * len(words) for words in plain]
    for words in changed:
        words[:start], words[len(words) - end :] = [False] * start, [False] * end
    for a, b, size in SequenceMatcher(None, *inside, autojunk=False).get_matching_blocks():
        for words, place in zip(changed, (a, b), strict=True):
            words[start + place : start + place + size] = [False] * size
    return _pieces(first, changed[0]), _pieces(second, changed[1])


def _pieces(words: list[str], changed: list[bool]) -> list[Piece]:
    runs = groupby(zip(words, changed, strict=True), lambda pair: pair[1])
    return [(" ".join(word for word, _ in run), differs) for differs, run in runs]
