"""`polygen-stream trace`: one Trace Event Format file of what all processes of a run wrote down.

Format: "Trace Event Format" (Duran, Google, 2016), its JSON object form, which Perfetto and chrome://tracing open:
complete events "X" per span, counter events "C", instant events "i", names as metadata events "M"; times in
microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import replacing
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.launch.events import timed_events


def write_trace(run_dir: Path, out: Path) -> int:
    """Write the trace of a run, running or not, and return the number of its spans.

    Raises:
        UserError: no run folder, nothing was traced, or `out` cannot be written.
    """
    run = RunFolder.open(run_dir)
    files = [lines for file in sorted(run.traces.glob("*.jsonl")) if (lines := list(read_jsonl(file)))]
    if not files:
        raise UserError(f"{run_dir} has no trace: start or resume it with launch.trace = true")
    spans = 0
    try:
        with replacing(out) as stream:
            stream.write(b'{"displayTimeUnit": "ms", "traceEvents": [')
            for number, event in enumerate(_events(run_dir, files)):
                stream.write(((",\n" if number else "\n") + json.dumps(event)).encode())
                spans += event["ph"] == "X"
            stream.write(b"\n]}\n")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    return spans


def _events(run_dir: Path, files: list[list[dict]]) -> Iterator[dict]:
    """All events of a run; time 0 is when its first process began."""
    heads = [lines[0] for lines in files]
    # Within one boot all processes share a clock, whatever becomes of the time of day; between two, only that tells.
    firsts: dict[str, dict] = {}
    for head in sorted(heads, key=lambda head: head["clock"]):
        firsts.setdefault(head["boot"], head)
    zero = min(first["time"] for first in firsts.values())
    boots = {boot: first["time"] - first["clock"] - zero for boot, first in firsts.items()}
    for pid, (head, *lines) in enumerate(files):  # real pids may come again; the name has them
        since = boots[head["boot"]]
        yield _name("process_name", pid, 0, f"{head['process']} (pid {head['pid']})")
        threads: dict[int, int] = {}
        for line in lines:
            place = {"pid": pid, "ts": (line["t"] + since) / 1e3}
            if "counters" in line:
                for chart, series in line["counters"].items():
                    yield {"ph": "C", "tid": 0, "name": chart, "args": series, **place}
                continue
            if line["thread"] not in threads:
                threads[line["thread"]] = len(threads)
                yield _name("thread_name", pid, threads[line["thread"]], f"thread {threads[line['thread']]}")
            yield {"ph": "X", "tid": threads[line["thread"]], "name": line["name"], "dur": line["d"] / 1e3, **place}
    for event in timed_events(run_dir):
        if (boot := event.get("boot")) in boots and "clock" in event:
            when = (event["clock"] + boots[boot]) / 1e3
        else:
            when = datetime.fromisoformat(event["time"]).timestamp() * 1e6 - zero / 1e3
        what = {name: value for name, value in event.items() if name not in ("time", "clock", "boot", "event")}
        yield {"ph": "i", "s": "g", "pid": 0, "tid": 0, "name": event["event"], "ts": max(0.0, when), "args": what}


def _name(kind: str, pid: int, tid: int, name: str) -> dict:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}
