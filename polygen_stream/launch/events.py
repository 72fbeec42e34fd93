"""events.jsonl: what happened to a run that should not have, and when. One JSON object per line.

    {"time": "2026-01-31T12:00:00+0000", "clock": ..., "boot": "...", "event": "restart", "process": "captioner",
     "reason": "...", "pause_s": 0.5}

Lines are in the order in which things happened; times need not be, for a clock can be set. "clock" is the monotonic one
in nanoseconds, which all processes of one boot share, as in a trace.

Events: "restart" (a process died and is started again), "degraded" (a generator was given up), "unusable" (a checkpoint
was put aside), "recorder" (the recorder was given up), "resume" (a supervisor took an unfinished run up again),
"changed" (with another value of a key).
"""

from __future__ import annotations

import time
from pathlib import Path

from polygen_stream.base.jsonl import append_jsonl, read_jsonl
from polygen_stream.base.records import is_count, is_text
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.roles.trace import boot_id

# What those that read events work with: an event without is one of another program, and left out.
_NEEDED = {"restart": {"process", "reason"}, "degraded": {"generator", "step", "text"}, "recorder": {"reason"}}
_KINDS = {
    **dict.fromkeys(("time", "event", "process", "reason", "generator", "text", "boot"), is_text),
    **dict.fromkeys(("step", "clock"), is_count),
}


def record_event(run_dir: Path, event: str, **what: object) -> None:
    """Append an event."""
    clock = {"clock": time.monotonic_ns(), "boot": boot_id()}
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **clock, "event": event} | what
    append_jsonl(RunFolder(run_dir).events, line)


def events(run_dir: Path, event: str | None = None) -> list[dict]:
    """Return the events of one sort, or of any, oldest first; without clock and boot."""
    return [
        {name: value for name, value in line.items() if name not in ("clock", "boot")}
        for line in timed_events(run_dir, event)
    ]


def timed_events(run_dir: Path, event: str | None = None) -> list[dict]:
    """Return the same with clock and boot, where an event has them."""
    return [
        line
        for line in read_jsonl(RunFolder(run_dir).events, required=("time", "event"), kinds=_KINDS)
        if event in (None, line["event"]) and line.keys() >= _NEEDED.get(line["event"], set())
    ]
