"""The open bank: a replacement for MetaCLIP's concept bank with the same components, from freely usable data.

MetaCLIP's bank (facebookresearch/MetaCLIP:docs/metaclip1_metadata.md, metaclip/metaclip1/build_metadata.py) has the
numbers 0 to 99, all WordNet synsets, the words that Wikipedia has at least 100 times, Wikipedia's bigrams of high
pointwise mutual information, and its often viewed titles, in this order, up to 500,000 entries. The open bank takes
words and bigrams from the wordsegment package (Google's web corpus). That corpus is so large that thresholds on
Wikipedia's counts would exclude nothing, so we take as many of its most frequent words, and of its bigrams with the
highest mutual information, as MetaCLIP's components have (our reading). Further words and bigrams take the place of
missing titles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import wordsegment

from polygen_stream.captions.banks.wordnet import WordNet

SIZE = 500_000
# Number of entries in MetaCLIP's components (MetaCLIP paper, Table 1).
WORDS, BIGRAMS, TITLES = 251_465, 100_646, 61_235


@dataclass(frozen=True)
class OpenBank:
    """A bank.

    Attributes:
        entries: the entries, without repetitions.
        components: number of entries that each component added, in order.
    """

    entries: tuple[str, ...]
    components: Mapping[str, int]


def build_open_bank(wordnet: WordNet, titles: Sequence[str] = (), size: int = SIZE) -> OpenBank:
    """Build the open bank, component by component.

    Args:
        wordnet: the WordNet files.
        titles: titles, e.g. of Wikipedia articles, the most viewed first; at most as many as MetaCLIP has are used.
        size: the largest number of entries.
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
        new = (entry for entry in part if any(character.isalnum() for character in entry))  # not punctuation alone
        for entry in new:
            if len(entries) == size:
                break
            entries[entry] = None
        components[name] = len(entries) - before
    return OpenBank(tuple(entries), components)


def by_mutual_information(words: Mapping[str, float], bigrams: Mapping[str, float], total: float) -> list[str]:
    """Sort bigrams by pointwise mutual information, log(p(ab) / (p(a) p(b))), highest first.

    Args:
        words: count of each word.
        bigrams: count of each bigram "a b"; bigrams with a word that has no count are left out.
        total: number of words in the corpus.
    """
    information = {}
    for bigram, count in bigrams.items():
        first, _, second = bigram.partition(" ")
        if words.get(first) and words.get(second):  # "<s>" marks the beginning of a sentence and has no count
            information[bigram] = math.log(count * total / (words[first] * words[second]))
    return sorted(information, key=lambda bigram: (-information[bigram], bigram))
