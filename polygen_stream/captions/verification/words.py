"""Splits captions into the words that verification compares: lower case, stemmed, without function words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import snowballstemmer


def word_set(words: str) -> frozenset[str]:
    """Return the words of a line, not stemmed."""
    return frozenset(words.split())


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_STEMMER = snowballstemmer.stemmer("english")

# Words that only follow the grammar of the words around them ("a dog sits" / "two dogs that are sitting").
FUNCTION_WORDS = word_set(
    "a an the some this these those is are was were be being been am there that which who whom s t"
)
RELATIVE_WORDS = word_set("that which who whom whose there")

# Inflections that the stemmer does not reduce to one stem. All pronouns and possessives count as one word, because they
# agree with their noun.
_IRREGULAR = {
    form: base
    for base, forms in {
        "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "tooth": "teeth",
        "mouse": "mice", "goose": "geese", "knife": "knives", "leaf": "leaves", "shelf": "shelves", "bus": "buses",
        "wolf": "wolves", "sit": "sat", "stand": "stood", "lie": "lying laying lay lays laid lies lain",
        "have": "has having had", "hold": "held", "ride": "rode ridden", "run": "ran", "eat": "ate eaten",
        "fly": "flew flown", "take": "took taken", "make": "made", "wear": "wore worn", "hang": "hung",
        "go": "went gone",
        "do": "does did doing done", "drive": "drove driven", "swim": "swam swum", "throw": "threw thrown",
        "catch": "caught", "leave": "left", "lead": "led", "feed": "fed",
        "drink": "drank drunk", "break": "broke broken",
        "them": "him it they he she her his hers its their theirs", "themselves": "himself herself itself",
        "gray": "grey", "color": "colour", "colored": "coloured", "donut": "doughnut", "next": "beside besides",
    }.items()
    for form in forms.split()
}  # fmt: skip


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case. Hyphens and punctuation separate words."""
    return [word.replace("’", "'").removesuffix("'s") for word in _WORD.findall(text.casefold())]


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return the stem that all inflections of a word share."""
    return _STEMMER.stemWord(_IRREGULAR.get(word, word))


def content_stems(text: str) -> list[str]:
    """Return the stems of the words of a text that are not function words."""
    return [stem(word) for word in split_words(text) if word not in FUNCTION_WORDS]


def stem_set(words: Iterable[str] | str) -> frozenset[str]:
    """Return the stems of a word list, for comparison with `content_stems`.

    Args:
        words: an iterable of words, or one string with words separated by blanks.
    """
    return frozenset(stem(word) for word in (words.split() if isinstance(words, str) else words))
