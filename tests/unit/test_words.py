"""Words that the package gave up for the field's own do not come back.

The list is of the changelog's "before" columns: an identifier, a message or a comment that has one is a leftover.
"""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "polygen_stream"
OLD = (
    "gang", "diary", "hunger", "hungry", "portrait", "yardstick", "stand_in", "tee", "tees", "turn_s", "memory_share",
    "rest_after_s", "naming_lost_peers", "lost peers", "meeting_place", "unhold", "sleeping_plan", "WallRow",
    "bench.peers", "caption wall", "by a clock of his own", "somebody", "whoever", "nobody",
)  # fmt: skip
# Old config keys, refused with their new names; and a table of English synonyms.
ALLOWED = {"config/renamed.py", "captions/verification/synonyms.py"}


def test_no_old_word_is_left():
    pattern = re.compile(r"(?<![A-Za-z0-9])(" + "|".join(map(re.escape, OLD)) + r")(?![A-Za-z0-9])")
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {match[0]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if str(path.relative_to(PACKAGE)) not in ALLOWED
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in pattern.finditer(line)
    ]
    assert not found, "\n".join(found)
