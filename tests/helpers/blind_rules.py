"""Rules that choose between captions without the picture, and how often they are right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from polygen_stream.micro.language import sample_request, write_captions
from polygen_stream.micro.parse import parse

TRAINING_CAPTIONS = 4000


def rules() -> dict[str, Callable[[str], float]]:
    """{name: what the chosen caption has more of}."""
    return {
        "shorter in words": lambda text: -len(text.split()),
        "longer in words": lambda text: len(text.split()),
        "shorter in characters": lambda text: -len(text),
        "longer in characters": lambda text: len(text),
        "more common words": _mean_log_frequency,
        "rarer words": lambda text: -_mean_log_frequency(text),
        "fewer things": lambda text: -len(parse(text).things),
        "fewer stripes": lambda text: -text.count("striped"),
        "setting first": lambda text: "," in text,
        "no opening": lambda text: not any(words in text for words in ("picture of", "photo of", "image of", "there")),
        "last in the alphabet": lambda text: sum(ord(c) / 1000 ** (i + 1) for i, c in enumerate(text[:5])),
    }


def chosen(rule: Callable[[str], float], captions: Iterable[str], negatives: Iterable[str]) -> np.ndarray:
    """float [n]: 1.0 where the rule prefers the caption, 0.5 for a tie."""
    difference = np.array([rule(true) - rule(false) for true, false in zip(captions, negatives, strict=True)])
    return (1 + np.sign(difference)) / 2


def chosen_last(
    rule: Callable[[str], float], captions: Iterable[str], paraphrases: Iterable[str], negatives: Iterable[str]
) -> np.ndarray:
    """float [n]: how likely the negative is last of the three, ties being broken at random."""
    out = []
    for texts in zip(captions, paraphrases, negatives, strict=True):
        first, second, negative = map(rule, texts)
        beaten = negative <= min(first, second)
        out.append(beaten / (1 + (first == negative) + (second == negative)))
    return np.array(out)


def _mean_log_frequency(text: str) -> float:
    known = _log_frequencies()
    rare = min(known.values()) - 1
    return float(np.mean([known.get(word, rare) for word in _words(text)]))


@cache
def _log_frequencies() -> dict[str, float]:
    """Of the words of captions as runs are trained on."""
    rng = np.random.default_rng(0)
    texts = [write_captions(*sample_request(rng), i % 2 == 1, rng)[0] for i in range(TRAINING_CAPTIONS)]
    counts = Counter(word for text in texts for word in _words(text))
    return {word: math.log(count / counts.total()) for word, count in counts.items()}


def _words(text: str) -> list[str]:
    return text.replace(",", "").split()
