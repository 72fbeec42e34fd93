"""An open stand-in for MetaCLIP's concept bank: the same four components from data that anyone may use.

MetaCLIP (facebookresearch/MetaCLIP:docs/metaclip1_metadata.md, metaclip/metaclip1/build_metadata.py): the numbers 0 to
99, all WordNet synsets, Wikipedia's words seen at least 100 times, bigrams of high pointwise mutual information, and
often viewed titles, in this order until 500,000. Here words and bigrams are those of the wordsegment package (Google's
web corpus), which is large enough that thresholds of Wikipedia's counts would not bind: each takes as many of its most
frequent words, and its bigrams of highest mutual information, as MetaCLIP's component has (our reading). More words and
bigrams fill what missing titles leave free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import wordsegment

from polygen_stream.captions.banks.wordnet import WordNet

SIZE = 500_000
# Entries of MetaCLIP's components (MetaCLIP paper, Table 1).
WORDS, BIGRAMS, TITLES = 251_465, 100_646, 61_235


@dataclass(frozen=True)
class OpenBank:
    """A bank and how many new entries each component brought, in order."""

    entries: tuple[str, ...]
    components: Mapping[str, int]


def build_open_bank(wordnet: WordNet, titles: Sequence[str] = (), size: int = SIZE) -> OpenBank:
    """Adds component after component until `size`.

    Args:
        titles: the most viewed first; at most as many as MetaCLIP's are used.
    """
    counts = wordsegment.Segmenter()
    counts.load()
    words = sorted(counts.unigrams, key=lambda word: (-counts.unigrams[word], word))
    bigrams = by_mutual_information(counts.unigrams, counts.bigrams, counts.total)
    parts = {
        "numbers": [str(number) for number in range(100)],
        "WordNet synsets": wordnet.synset_names(),
        "words": words[:WORDS],
        "bigrams": bigrams[:BIGRAMS],
        "titles": titles[:TITLES],
        "more words": words[WORDS:],
        "more bigrams": bigrams[BIGRAMS:],
    }
    entries: dict[str, None] = {}
    components = {}
    for name, part in parts.items():
        before = len(entries)
        new = (entry for entry in part if any(character.isalnum() for character in entry))  # no bare punctuation
        for entry in new:
            if len(entries) == size:
                break
            entries[entry] = None
        components[name] = len(entries) - before
    return OpenBank(tuple(entries), components)


def by_mutual_information(words: Mapping[str, float], bigrams: Mapping[str, float], total: float) -> list[str]:
    """Bigrams "a b" by log(p(ab) / (p(a) p(b))), the most surprising pair first; those with an unknown word are out."""
    information = {}
    for bigram, count in bigrams.items():
        first, _, second = bigram.partition(" ")
        if words.get(first) and words.get(second):  # "<s>" begins sentences and is no word
            information[bigram] = math.log(count * total / (words[first] * words[second]))
    return sorted(information, key=lambda bigram: (-information[bigram], bigram))
