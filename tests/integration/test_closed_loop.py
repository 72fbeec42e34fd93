"""A captioner process that follows the feedback board of a real ring; the tests measure in the trainer's place."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from role_processes import fill, starting, wait

from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import JournalEntry, read_journal
from polygen_stream.config import RunConfig, load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.micro.edits import EDITS
from polygen_stream.ring import Measurement, Ring

HARD = "replace_count"
EASY = [edit for edit in EDITS if edit != HARD]


def closed_loop(**changes: str) -> RunConfig:
    sizes = {
        "captions.source": "grammar",
        "captions.target": "240",
        "captions.backlog": "16",
        "captions.axes": ",".join(EDITS),
        "train.steps": "40",
        "train.batch": "8",
        "ring.min_fill": "8",
        "ring.slots": "2048",
        "synthesis.policy": "hardest",
        "synthesis.candidates": "32",
    }
    return load_config(None, {**sizes, **changes})


@pytest.fixture
def start(tmp_path: Path):
    with starting(tmp_path) as start:
        yield start


def measure(ring: Ring, step: int) -> None:
    """Add to the board that images of HARD have no margin and others have one."""
    axes, _ = ring.feedback_names()
    rows = np.array([(axes.index(edit), -1, 0) for edit in EDITS for _ in range(32)])
    margin = np.array([0.0 if edit == HARD else 0.5 + 0.01 * i for i, edit in enumerate(EDITS) for _ in range(32)])
    ring.add_feedback(Measurement(step, rows, np.ones(len(rows)), np.ones(len(rows), bool), margin))


def journal_of(folder: Path) -> list[JournalEntry]:
    return list(read_journal(folder / "journal.jsonl"))


def test_a_captioner_writes_more_of_what_training_gets_wrong(start, tmp_path: Path):
    config = closed_loop()
    ring = Ring.create(ring_spec(config))
    ring.register("renderer", "test")
    captioner = start(config, ring, "captioner")
    wait(lambda: ring.feedback_names()[0][0])
    measure(ring, 3)
    while captioner.poll() is None:
        fill(ring)
        time.sleep(0.01)
    assert captioner.returncode == 0, captioner.stderr.read()
    entries = journal_of(tmp_path)
    following = [entry for entry in entries if entry.choice is not None and entry.choice.step == 3]
    counts = Counter(entry.task.axis for entry in following)
    mean_of_others = sum(counts[edit] for edit in EASY) / len(EASY)
    assert len(following) > 200 and counts[HARD] > 2.5 * mean_of_others
    assert min(counts[edit] for edit in EASY) > 0, "every axis goes on being written"
    assert ring.read_feedback().axes[HARD].weight > 2
    groups = {group.task_id: group.feedback_rows[0] for group in ring.groups_snapshot(10**6)}
    axes, _ = ring.feedback_names()
    axis_of = {entry.task.task_id: entry.task.axis for entry in entries}
    assert groups and all(axes[row] == axis_of[task] for task, row in groups.items())
    ring.close()


def test_a_killed_captioner_has_decided_each_caption_once(start, tmp_path: Path):
    config = closed_loop(**{"captions.target": "120"})
    ring = Ring.create(ring_spec(config))
    ring.register("renderer", "test")
    for kill_at in (24, 56, 88):
        captioner = start(config, ring, "captioner")
        wait(lambda: ring.feedback_names()[0][0])
        measure(ring, kill_at)
        while ring.stats().groups_opened < kill_at:
            fill(ring)
        captioner.kill()
        captioner.wait()
        ring.reap()
    before = journal_of(tmp_path)
    captioner = start(config, ring, "captioner")
    while captioner.poll() is None:
        fill(ring)
        time.sleep(0.01)
    assert captioner.returncode == 0, captioner.stderr.read()
    entries = journal_of(tmp_path)
    assert entries[: len(before)] == before, "what was decided stays decided"
    ids = [entry.task.task_id for entry in entries]
    assert ids == sorted(set(ids)) and ids[-1] >= 120
    assert ring.stats().groups_opened == 120 == sum(isinstance(entry.outcome, Caption) for entry in entries)
    assert all(entry.choice is not None for entry in entries)
    ring.close()
