"""One line of doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        part: Section of the report: "machine", "packages", "weights", "recipes" or "run".
        item: What was looked at.
        state: "ok", "missing" (something optional) or "problem" (a run would fail).
        found: What was found.
        advice: What it is good for, or how to mend it; empty: nothing to do.
        command: Shell command that does so; empty: there is none.
    """

    part: str
    item: str
    state: State
    found: str
    advice: str = ""
    command: str = ""
