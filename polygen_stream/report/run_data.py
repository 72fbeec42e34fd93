"""Everything a run folder tells a report, read once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_json
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.captions.journal import read_journal
from polygen_stream.config import RunConfig, load_config
from polygen_stream.report import gallery
from polygen_stream.report.gallery import Gallery
from polygen_stream.ring.inspection import Inspection, inspect_state
from polygen_stream.ring.snapshot_file import SnapshotFile

HEADLINE = ("zero_shot_things", "zero_shot_colours", "retrieval_i2t_r1", "retrieval_t2i_r1", "compositional")


@dataclass(frozen=True)
class RunData:
    """One run. What it has not written (yet) is empty or None."""

    folder: Path
    config: RunConfig
    metrics: list[dict]  # of metrics.jsonl, one per logged step
    evaluations: list[dict]  # of eval.jsonl, by step
    refused: Counter  # captions and negatives that validators refused, by reason
    tasks: int  # written by the captioner
    ring: Inspection | None
    gallery: Gallery | None
    analysis: dict | None
    tables: dict[str, dict]  # of `polygen-stream evaluate`: {task: {score: {score, low, high, n, chance}}}, newest step
    provenance: dict
    summary: dict

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def steps(self) -> int:
        return self.metrics[-1]["step"] + 1 if self.metrics else 0

    @property
    def last(self) -> dict | None:
        """The evaluation of the newest checkpoint that is not the untrained one."""
        trained = [line for line in self.evaluations if line["step"] > 0]
        return trained[-1] if trained else None

    @property
    def untrained(self) -> dict | None:
        return next((line for line in self.evaluations if line["step"] == 0), None)


def read_run_data(folder: Path, ring: Inspection | None = None) -> RunData:
    """ring: as it stands, while the run has not left a snapshot of it.

    Raises:
        UserError: not a run folder.
    """
    run = RunFolder.open(folder)
    journal = list(read_journal(run.journal))
    refused = Counter(reason for entry in journal for reason in entry.outcome.rejected)
    evaluated = sorted(run.evaluations.glob("step_*.json"))
    return RunData(
        folder=folder.resolve(),
        config=load_config(run.config),
        metrics=list(read_jsonl(run.metrics, required=("step",))),
        evaluations=sorted(read_jsonl(run.eval_log, required=("step",)), key=lambda line: line["step"]),
        refused=refused,
        tasks=len(journal),
        ring=ring or _ring(run.ring_snapshot),
        gallery=gallery.load(run.gallery),
        analysis=read_json(run.analysis) or None,
        tables=read_json(evaluated[-1]).get("scores", {}) if evaluated else {},
        provenance=read_json(run.provenance),
        summary=read_json(run.summary),
    )


def _ring(file: Path) -> Inspection | None:
    try:
        return inspect_state(SnapshotFile(file).state, running=False)
    except UserError:  # none yet, or of another release
        return None
