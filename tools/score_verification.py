"""Score the verification of hard negatives on SugarCrepe and SugarCrepe++, and print a Markdown table.

    python tools/score_verification.py FOLDER           # on the odd half of the rows
    python tools/score_verification.py FOLDER --even    # on the even half, on which the rules were written

FOLDER holds sugarcrepe/*.json (RAIVNLab/sugar-crepe) and sugarcrepe_pp/*.json (Sri-Harsha/scpp). The table has the
number of accepted and rejected rows by category and reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.captions.verification.benchmark import NEGATIVES, PARAPHRASES, score_verification
from polygen_stream.captions.verification.verify import Reject


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--even", action="store_true", help="score the half on which the rules were written")
    arguments = parser.parse_args()
    try:
        scores = score_verification(arguments.folder, 0 if arguments.even else 1)
    except UserError as problem:
        sys.exit(f"error: {problem}")

    reasons = [reason for reason in Reject if any(reason in count for count in scores.verdicts.values())]
    print(
        "| rows | category | n | accepted | on an axis | rejected | "
        + " | ".join(r.name.lower() for r in reasons)
        + " |"
    )
    print("| --- | --- |" + " ---: |" * (4 + len(reasons)))
    for (benchmark, category), count in scores.verdicts.items():
        rows = "negatives" if benchmark == NEGATIVES else "paraphrases"
        on_axis = scores.on_axis[category] if benchmark == NEGATIVES else ""
        cells = [count.total(), count[None], on_axis, count.total() - count[None], *(count[r] for r in reasons)]
        print(f"| {rows} | {category} | " + " | ".join(map(str, cells)) + " |")
    print(f"\nNegatives accepted: {scores.accepted(NEGATIVES):.1%}.", end=" ")
    print(f"Paraphrases rejected: {1 - scores.accepted(PARAPHRASES):.1%}.")


if __name__ == "__main__":
    main()
