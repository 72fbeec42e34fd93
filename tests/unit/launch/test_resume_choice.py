"""Which run `--resume` goes on with, and from which of its checkpoints."""

from __future__ import annotations

import json
import os

import pytest
from small_rings import open_plain, render, small_spec

from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import (
    META,
    RING,
    config_hash,
    describe_files,
    list_checkpoints,
    read_meta,
)
from polygen_stream.config import RunConfig
from polygen_stream.launch.events import events
from polygen_stream.launch.resume import check_config, find_run, last_usable, rewind
from polygen_stream.launch.run_setup import lock_run_folder
from polygen_stream.ring import Ring
from polygen_stream.ring.snapshot import save_snapshot

CONFIG = RunConfig()


def checkpoint(run_dir, ring: Ring, step: int, final: bool = False, config: RunConfig = CONFIG):
    folder = RunFolder(run_dir).checkpoint(step)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "state.pt").write_bytes(bytes(500))
    save_snapshot(ring, folder / RING, payload=True)
    meta = {"step": step, "final": final, "model": "micro", "config_hash": config_hash(config)}
    (folder / META).write_text(json.dumps(meta | {"files": describe_files(folder)}))
    return folder


@pytest.fixture
def run(tmp_path, new_ring):
    """A run folder with checkpoints of the steps 10, 20 and 30, and as many captions in the ring of each."""
    ring = new_ring()
    for step in (10, 20, 30):
        while ring.stats().known < step // 10:
            open_plain(ring, ring.stats().known)
        render(ring)
        checkpoint(tmp_path, ring, step)
    return tmp_path


def choose(run_dir, spec=None) -> tuple[int, list[str]]:
    said: list[str] = []
    spec = spec or small_spec()
    step, ring = last_usable(run_dir, CONFIG, spec, said.append)
    assert ring.stats().known == step // 10
    ring.close()
    return step, said


def test_the_newest_one_is_taken(run):
    assert choose(run) == (30, [])


def damage_truncated(folder):
    os.truncate(folder / "state.pt", 499)


def damage_bytes(folder):
    (folder / "model.safetensors").write_bytes(bytes(999) + b"x")


def damage_missing(folder):
    (folder / RING).unlink()


def damage_meta(folder):
    (folder / META).write_text("{")


def damage_moved(folder):
    meta = read_meta(folder)
    (folder / META).write_text(json.dumps(meta | {"step": 7}))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_truncated, "state.pt is truncated: 499 of 500 bytes"),
        (damage_bytes, "model.safetensors is damaged"),
        (damage_missing, "ring.safetensors is missing"),
        (damage_meta, "it is not JSON"),
        (damage_moved, "it is another step's: its meta.json says step 7"),
    ],
)
def test_one_that_cannot_be_used_is_put_aside_and_the_one_before_is_taken(run, damage, why):
    damage(RunFolder(run).checkpoint(30))
    step, [said] = choose(run)
    assert step == 20
    assert why in said and "unusable-step_000030" in said and "\n" not in said
    assert [step for step, _ in list_checkpoints(run)] == [10, 20]
    assert (run / "checkpoints" / "unusable-step_000030").is_dir(), "it is its owner's to look at or to remove"
    [event] = events(run, "unusable")
    assert event["checkpoint"] == "step_000030" and why in event["reason"]
    damage(checkpoint(run, Ring.create(small_spec()), 30))
    assert choose(run)[0] == 20, "twice the same step"


def edit_meta(folder):
    (folder / META).write_text(json.dumps(read_meta(folder) | {"config_hash": "0123456789abcdef"}))


@pytest.mark.parametrize(
    ("edit", "spec", "why"),
    [
        (edit_meta, small_spec(), "is another run's or another release's: config hash 0123456789abcdef"),
        (lambda folder: None, small_spec(caption_bytes=64), "was made with caption_bytes = .*, this run has 64"),
    ],
)
def test_one_that_is_whole_is_never_put_aside(run, edit, spec, why):
    edit(RunFolder(run).checkpoint(30))
    with pytest.raises(UserError, match=why):
        last_usable(run, CONFIG, spec, print)
    assert [step for step, _ in list_checkpoints(run)] == [10, 20, 30] and not events(run)


def test_too_little_memory_for_the_ring_puts_no_checkpoint_aside(run, monkeypatch):
    def create(*_):
        raise UserError("the ring needs 9 MiB but only 8 MiB are available")

    monkeypatch.setattr(Ring, "allocate", create)
    with pytest.raises(UserError, match="the ring needs 9 MiB"):
        last_usable(run, CONFIG, small_spec(), print)
    assert [step for step, _ in list_checkpoints(run)] == [10, 20, 30]


def test_another_limit_counts_from_the_resumed_step_on(run):
    step, ring = last_usable(run, CONFIG, small_spec(max_times_sampled=3, max_retries=9), print)
    assert step == 30 and ring.limits.max_times_sampled == 3 and ring.spec.max_retries == 9
    ring.close()


def test_a_run_without_a_checkpoint_begins_again(tmp_path):
    assert choose(tmp_path) == (0, [])


def test_rewinding_keeps_what_was_before_the_checkpoint(run):
    for name in ("metrics.jsonl", "eval.jsonl"):
        (run / name).write_text("".join(f'{{"step": {step}}}\n' for step in (0, 10, 20, 30)) + '{"step": 3')
    RunFolder(run).checkpoint(30).rename(run / "elsewhere")
    meta = read_meta(RunFolder(run).checkpoint(20))
    (RunFolder(run).checkpoint(20) / META).write_text(json.dumps(meta | {"final": True}))  # it was interrupted there
    rewind(run, 20, steps=40)
    steps = {
        name: [json.loads(line)["step"] for line in (run / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "eval.jsonl")
    }
    # metrics count from 0: line 19 is the last one of 20 steps; checkpoints count steps done
    assert steps == {"metrics.jsonl": [0, 10], "eval.jsonl": [0, 10, 20]}
    assert read_meta(RunFolder(run).checkpoint(20))["final"] is False


def run_folder(runs, name: str, status: str | None, age: int):
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("seed = 0\n")
    (folder / "provenance.json").write_text("{}")
    os.utime(folder / "provenance.json", (10**9 - age, 10**9 - age))
    if status:
        (folder / "summary.json").write_text(json.dumps({"status": status}))
    return folder


def test_auto_is_the_newest_unfinished_run(tmp_path):
    run_folder(tmp_path, "done", "completed", age=0)
    killed = run_folder(tmp_path, "killed", None, age=1)
    run_folder(tmp_path, "older", "interrupted", age=2)
    (tmp_path / "no run").mkdir()
    assert find_run("auto", tmp_path) == killed
    assert find_run(str(tmp_path / "older")).name == "older"


def test_what_cannot_be_resumed_is_refused_in_one_line(tmp_path):
    done = run_folder(tmp_path, "done", "completed", age=0)
    with pytest.raises(UserError, match="no unfinished run under"):
        find_run("auto", tmp_path)
    with pytest.raises(UserError, match="is finished, see its summary"):
        check_config(done, CONFIG)
    with pytest.raises(UserError, match="no run folder"):
        find_run(str(tmp_path))


def test_a_run_folder_has_one_supervisor_at_a_time(tmp_path):
    alive = run_folder(tmp_path, "alive", None, age=0)
    held = lock_run_folder(alive)
    with pytest.raises(UserError, match="is still going on"):
        lock_run_folder(alive)
    os.close(held)
    os.close(lock_run_folder(alive))
