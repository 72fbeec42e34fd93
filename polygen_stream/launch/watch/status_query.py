"""`polygen-stream status`: how a run stands, from its supervisor; how one that is over stood, from its files."""

from __future__ import annotations

from pathlib import Path

from polygen_stream.base.json_files import read_json
from polygen_stream.base.records import is_list, is_text
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.launch.watch.control_protocol import ANSWER_LIMIT_S, RunEnding, ask
from polygen_stream.launch.watch.inspect_client import newest_snapshot
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.run_status import of_the_past, to_dict
from polygen_stream.ring.snapshot_file import SnapshotFile
from polygen_stream.ring.state import empty_state
from polygen_stream.ring.stats import ring_stats


def status_of(run_dir: Path, answer_limit_s: float = ANSWER_LIMIT_S) -> dict:
    """Return how the run of a folder stands, see run_status.to_dict; of one that is over, how it stood at the last.

    Raises:
        UserError: No run folder, or one of its files is damaged.
        PolygenError: Its supervisor does not answer.
    """
    run = RunFolder.open(run_dir)
    try:
        answer = ask(run_dir, {"verb": "status"}, answer_limit_s)
    except RunEnding:
        answer = None
    return _from_files(run) if answer is None else answer.content


def _from_files(run: RunFolder) -> dict:
    config, tail = load_config(run.config), MetricsTail(run.metrics)
    tail.read()
    snapshot = newest_snapshot(run.path)
    state = SnapshotFile(snapshot).state if snapshot else empty_state(ring_spec(config))
    return to_dict(config, run.path, how_it_ended(run), of_the_past(ring_stats(state), tail))


def how_it_ended(run: RunFolder) -> str:
    """Return the status of a run's summary, or "killed" when its last supervisor left none.

    Raises:
        UserError: The summary or the provenance is damaged.
    """
    if not run.summary.exists():
        return "killed"
    summary = read_json(run.summary, required=("status",), kinds={"status": is_text, "resumes": is_list})
    # A run that was resumed has an earlier attempt's summary too, which knows of fewer resumes. The files' times do not
    # tell: a copy has its own.
    resumed = len(read_json(run.provenance, kinds={"resumed": is_list}).get("resumed", []))
    return summary["status"] if len(summary.get("resumes", [])) >= resumed else "killed"
