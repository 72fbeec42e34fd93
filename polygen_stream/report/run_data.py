"""What a run folder holds for a report, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.eval_log import has_whole_suite, read_evaluations, suite_scores
from polygen_stream.base.json_files import read_json
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.records import is_count, is_feedback, is_number, is_object, is_text, is_tree_of
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import read_journal
from polygen_stream.config import RunConfig, load_config
from polygen_stream.evaluate.scores_file import read_scores
from polygen_stream.report import gallery
from polygen_stream.report.gallery import Gallery
from polygen_stream.ring.inspection import Inspection, inspect_state
from polygen_stream.ring.snapshot_file import SnapshotFile

# Keys without which a line of metrics.jsonl, or analysis.json, counts as damaged.
METRICS = (
    "step", "time", "loss", "loss_parts", "p", "p_realised", "logit_scale", "wait_s", "step_s", "images", "texts",
    "images_committed", "groups_complete", "mean_reuse",
)  # fmt: skip
METRIC_KINDS = {
    **dict.fromkeys(METRICS, is_number), "step": is_count, "loss_parts": is_tree_of(is_number, 1),
    "feedback": is_feedback,
}  # fmt: skip
SUMMARY_KINDS = {
    "status": is_text,
    "seconds": is_number,
    "seconds_to_first_step": lambda value: value is None or is_number(value),
}
PROVENANCE_KINDS = {"git": lambda value: value is None or (is_object(value) and is_text(value.get("commit", "")))}
ANALYSIS = ("about", "classes", "generators", "ensemble")


@dataclass(frozen=True)
class RunData:
    """One run. What it has not written (yet) is empty or None.

    Attributes:
        metrics: lines of metrics.jsonl, one per logged step.
        evaluations: lines of eval.jsonl, by step.
        refused: captions and negatives that validators refused, by reason.
        tasks: caption tasks in the journal.
        axes: axis of each caption that was written, in their order.
        summary: of the run's end, {} while it goes on.
        tables: {task: {name: score}} of evaluate.tasks and `polygen-stream evaluate` on the newest trained model that
            either has scored; keys of a score as in `Score`.
    """

    folder: Path
    config: RunConfig
    metrics: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    refused: Counter[str]
    tasks: int
    axes: list[str]
    ring: Inspection | None
    gallery: Gallery | None
    analysis: dict[str, Any] | None
    tables: dict[str, dict[str, Any]]
    provenance: dict[str, Any]
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.folder.name

    @property
    def steps(self) -> int:
        """Optimizer steps so far, up to the last logged one."""
        return self.metrics[-1]["step"] + 1 if self.metrics else 0

    @property
    def suite_evaluations(self) -> list[dict[str, Any]]:
        """The evaluations that have scores of the micro suite."""
        return [line for line in self.evaluations if line["metrics"]]

    @property
    def headline(self) -> tuple[str, ...]:
        """The scores of the micro suite that all of them have."""
        return suite_scores(self.suite_evaluations)

    @property
    def last(self) -> dict[str, Any] | None:
        """The evaluation of the newest checkpoint that is not the untrained one."""
        trained = [line for line in self.evaluations if line["step"] > 0]
        return trained[-1] if trained else None

    @property
    def untrained(self) -> dict[str, Any] | None:
        """The evaluation of the model before its first step."""
        return next((line for line in self.evaluations if line["step"] == 0), None)


def read_run_data(folder: Path, ring: Inspection | None = None) -> RunData:
    """Read a run folder.

    Args:
        folder: the run folder.
        ring: the state of the ring, while the run goes on; else its snapshot in the folder is read.

    Raises:
        UserError: it is no run folder, or a file in it is damaged. Damaged lines of metrics.jsonl and eval.jsonl are
            left out with a warning, as are a damaged gallery and ring snapshot.
    """
    run = RunFolder.open(folder)
    journal = list(read_journal(run.journal))
    refused = Counter(reason for entry in journal for reason in entry.outcome.rejected)
    evaluations = sorted(read_evaluations(run.eval_log, usable=has_whole_suite), key=lambda line: line["step"])
    return RunData(
        folder=folder.resolve(),
        config=load_config(run.config),
        metrics=list(read_jsonl(run.metrics, METRICS, METRIC_KINDS)),
        evaluations=evaluations,
        refused=refused,
        tasks=len(journal),
        axes=[entry.task.axis for entry in journal if isinstance(entry.outcome, Caption)],
        ring=ring or _ring(run.ring_snapshot),
        gallery=gallery.load(run.gallery),
        analysis=read_json(run.analysis, required=ANALYSIS) or None,
        tables=_tables(run, evaluations),
        provenance=read_json(run.provenance, kinds=PROVENANCE_KINDS),
        # While the run goes on, the summary there may be is an earlier attempt's.
        summary={} if ring else read_json(run.summary, kinds=SUMMARY_KINDS),
    )


def _tables(run: RunFolder, evaluations: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    files = sorted(run.evaluations.glob("step_*.json"))
    logged = [line for line in evaluations if line.get("tasks") and line["step"] > 0]
    if not logged:
        return read_scores(files[-1])["scores"] if files else {}
    step, tables = logged[-1]["step"], logged[-1]["tasks"]
    if not files or files[-1] < run.evaluation(step):
        return tables
    later = read_scores(files[-1])["scores"]
    return {**tables, **later} if files[-1] == run.evaluation(step) else later


def _ring(file: Path) -> Inspection | None:
    try:
        return inspect_state(SnapshotFile(file).state, running=False)
    except UserError:  # none yet, or of another release
        return None
