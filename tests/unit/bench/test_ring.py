"""`polygen-stream bench ring` through its public command, and the check on which every number of it rests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from polygen_stream.bench.baselines.memcpy import MemcpyBaseline
from polygen_stream.bench.harness.worker import run_round
from polygen_stream.bench.harness.workload import DamagedSample, Work, WorkBatch, WorkPictures
from polygen_stream.bench.ring.draw import full_ring
from polygen_stream.ring import DrawRequest

WORK = Work(side=8, images=64, slots=128, batch=32, read=32, producers=1, handed=32)
COMMAND = [sys.executable, "-m", "polygen_stream", "bench", "ring"]


def spread_keys(measurement: dict) -> set[str]:
    assert measurement["n"] > 0 and measurement["median"] > 0 and measurement["spread"] >= 0
    return set(measurement)


@pytest.mark.extended
def test_a_quick_run_yields_the_documented_keys(tmp_path):
    out, plot = tmp_path / "ring.json", tmp_path / "growth.png"
    done = subprocess.run(
        [*COMMAND, "--quick", "--json", str(out), "--plot", str(plot)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert {"ours", "memcpy", "baselines", "draw", "contention", "targets", "machine"} <= set(result)
    for who in ("ours", "memcpy"):
        for case in ("224px", "32px"):
            assert spread_keys(result[who][case]["images_per_s"]) == {"median", "spread", "n"}
    assert result["memcpy"]["224px"]["of_limit"]["median"] == 1
    assert result["baselines"] == {}  # not asked for
    for point in result["draw"]["growth"]:
        assert spread_keys(point["held_ms"]) == spread_keys(point["whole_ms"]) == {"median", "spread", "n"}
        assert point["held_ms"]["median"] < point["whole_ms"]["median"]
    for case in result["contention"].values():
        assert 0 <= case["commit_wait_ms"]["p50"] <= case["commit_wait_ms"]["p99"] <= case["commit_ms"]["max"]
    assert plot.stat().st_size > 0
    assert "| ring |" in done.stdout  # Markdown, because it is not a terminal


class Flawed(MemcpyBaseline):
    """Carries samples as the limit does, and spoils one of them."""

    def __init__(self, work: Work, spoil) -> None:
        super().__init__(work)
        self._spoil = spoil

    def draw(self) -> WorkBatch:
        return self._spoil(super().draw())


def flip_a_bit(batch: WorkBatch) -> WorkBatch:
    batch.images[17].reshape(-1)[-1] ^= 1
    return batch


def swap_captions(batch: WorkBatch) -> WorkBatch:
    return WorkBatch(batch.samples, batch.captions[::-1], batch.images)


def repeat_a_sample(batch: WorkBatch) -> WorkBatch:
    for column in (batch.samples, batch.images):
        column[0] = column[1]
    return WorkBatch(batch.samples, [batch.captions[1], *batch.captions[1:]], batch.images)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [(flip_a_bit, "pixels of sample"), (swap_captions, "came with the caption"), (repeat_a_sample, "drawn [02] times")],
)
def test_a_baseline_that_damages_a_sample_is_refused(spoil, complaint):
    pictures = WorkPictures(WORK)
    with pytest.raises(DamagedSample, match=complaint):
        run_round(Flawed(WORK, spoil), WORK, pictures, first=0, every=1)


def test_a_baseline_that_does_its_work_passes_the_same_check():
    assert run_round(MemcpyBaseline(WORK), WORK, WorkPictures(WORK), first=64, every=1)["seconds"] > 0


def test_the_ring_filled_for_the_draw_measurement_is_one_the_ring_accepts():
    with full_ring(64, 4) as (ring, _):
        assert ring.check() == []
        draw = ring.draw(DrawRequest(0, 4, 4), 0.0)
        kinds = [group.kind for group in draw.groups]
        generators = {(group.kind, g) for group in draw.groups for g in group.positive_generators}
        assert len(kinds) == 8 and len(generators) == 8  # categories: two kinds, four generators
        assert all(group.caption == f"t{group.task_id}" for group in draw.groups)
        ring.release(draw)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_a_run_that_is_ended(tmp_path, end):
    shm = set(os.listdir("/dev/shm"))
    process = subprocess.Popen(
        [*COMMAND, "--quick", "--soak", "10"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        # a shell's background job ignores Ctrl-C, and would hand that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    family = []
    deadline = time.monotonic() + 120
    while len(family) < 2 and time.monotonic() < deadline:  # a host and a producer of it
        family = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.02)
    assert len(family) >= 2
    process.send_signal(end)
    _, said = process.communicate(timeout=120)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert set(os.listdir("/dev/shm")) <= shm
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[-1] == "bench: stopped"
        assert list(Path(tmp_path).iterdir()) == []


def test_a_missing_folder_is_said_before_anything_is_measured(tmp_path):
    done = subprocess.run(
        [*COMMAND, "--json", str(tmp_path / "no" / "x.json")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line == f"error: {tmp_path}/no/x.json: the folder {tmp_path}/no does not exist; make it first"


def test_shares_cover_every_sample_once():
    work = Work(side=8, images=256, slots=512, batch=64, read=64, producers=3, handed=32)
    written = [sample for number in range(3) for part in work.share(1024, 256, number) for sample in part.tolist()]
    assert sorted(written) == list(range(1024, 1280))
    assert np.array_equal(WorkPictures(work).make(np.arange(5)).shape, (5, 8, 8, 3))
