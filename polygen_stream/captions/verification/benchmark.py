"""The verification benchmark: verification against human judgement, on SugarCrepe and SugarCrepe++.

SugarCrepe (RAIVNLab/sugar-crepe) has hard negatives that people have checked. SugarCrepe++ (Sri-Harsha/scpp) has a
paraphrase of each of its captions, which is not a hard negative. Rows are split in two halves by a hash of their image,
so that no caption is in both: the rules were written on the even half and are scored on the odd half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_user_json
from polygen_stream.base.seeding import key
from polygen_stream.captions.verification.axes import AXES
from polygen_stream.captions.verification.verify import Reject, verify

NEGATIVES, PARAPHRASES = "sugarcrepe", "sugarcrepe_pp"
CATEGORIES = {
    NEGATIVES: ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"),
    PARAPHRASES: ("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"),
}


@dataclass(frozen=True)
class VerificationScores:
    """Verdicts on both benchmarks.

    Attributes:
        verdicts: number of rows by verdict, per (benchmark, category), verified without an axis; None counts the
            accepted rows.
        on_axis: per category, the number of negatives that at least one axis of that category accepts.
    """

    verdicts: dict[tuple[str, str], Counter[Reject | None]]
    on_axis: dict[str, int]

    def accepted(self, benchmark: str) -> float:
        """Return the share of the rows of a benchmark that are accepted as hard negatives, in 0..1."""
        counts = [count for (name, _), count in self.verdicts.items() if name == benchmark]
        return sum(count[None] for count in counts) / sum(count.total() for count in counts)


def score_verification(folder: Path, parity: int) -> VerificationScores:
    """Verify one half of the rows.

    Args:
        folder: holds sugarcrepe/*.json and sugarcrepe_pp/*.json.
        parity: 0 for the rows whose hash is even, 1 for those whose hash is odd.

    Raises:
        UserError: a file of the benchmarks is missing.
    """
    verdicts, on_axis = {}, {}
    for benchmark, categories in CATEGORIES.items():
        for category in categories:
            pairs = list(_pairs(folder, benchmark, category, parity))
            verdicts[benchmark, category] = Counter(verify(caption, other) for caption, other in pairs)
            if benchmark == NEGATIVES:
                axes = [axis for axis in AXES.values() if axis.category == category]
                on_axis[category] = sum(any(verify(*pair, axis) is None for axis in axes) for pair in pairs)
    return VerificationScores(verdicts, on_axis)


def _pairs(folder: Path, benchmark: str, category: str, parity: int) -> Iterator[tuple[str, str]]:
    file = folder / benchmark / f"{category}.json"
    if not file.is_file():
        raise UserError(f"{file} does not exist: put SugarCrepe's and SugarCrepe++'s JSON files under {folder}")
    rows = read_user_json(file, "benchmark file")
    other = "negative_caption" if benchmark == NEGATIVES else "caption2"
    try:
        for row in rows.values() if isinstance(rows, dict) else rows:
            if key("caption verification", row["filename"]) % 2 == parity:
                yield row["caption"], row[other]
    except (KeyError, TypeError) as problem:
        raise UserError(
            f"{file} is no list of pairs with filename, caption and {other} ({problem!r}): take the benchmark's own"
        ) from None
