"""From a run to shards, and from shards to a run: toy trainers, the real recorder and the real reader."""

from __future__ import annotations

import signal

import pytest
from launched_runs import toy

from polygen_stream.base.errors import UserError
from polygen_stream.config import dump_config, load_config
from polygen_stream.launch.replay import replay_of
from polygen_stream.launch.watch.status_query import status_of


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """60 captions with hard negatives, two pictures each, as a run's recorder wrote them."""
    folder = tmp_path_factory.mktemp("first")
    run = toy(folder, "--captions.target", "60", "--launch.record_shards", str(folder / "shards"))
    try:
        assert run.wait() == 0
    finally:
        run.close()
    return folder / "shards"


def source(shards, *words: str) -> tuple[str, ...]:
    return ("--captions.source", "shards", "--captions.shards", str(shards), *words)


def test_a_run_trains_from_the_shards_of_another(start_toy, shards):
    run = start_toy(*source(shards, "--captions.target", "0"))
    run.wait_until(lambda: "reader" in run.processes(), "the reader")
    assert {"captioner", "renderer-micro-sd15"}.isdisjoint(run.processes())
    assert run.wait() == 0
    run.assert_nothing_left()
    assert run.summary["steps"] == 40 and run.summary["captions"] == 60
    assert run.summary["images"] == {"micro/sd15": 120, "micro/sana": 120}
    assert run.summary["waiting"]["producer_limiter_share"].keys() == {"reader"}


def test_reader_and_supervisor_are_killed_and_the_run_goes_on(start_toy, resume_toy, shards):
    """A ring of 128 slots cannot keep the 60 captions: the shards are read again and again."""
    settings = ("--ring.slots", "128", "--captions.target", "0", "--train.checkpoint_every", "10")
    run = start_toy(*source(shards, *settings, "--train.steps", "400"))
    run.wait_until(lambda: run.steps() > 15, "a checkpoint")
    run.process("reader").kill()
    # The second alone says nothing: the first reader may have come so far.
    run.wait_until(lambda: status_of(run.run_dir)["restarts"] == {"reader": 1}, "another reader")
    run.wait_until(lambda: status_of(run.run_dir)["captions_opened"] > 70, "a second pass")
    run.process("supervisor").send_signal(signal.SIGKILL)
    run.wait()
    run.assert_nothing_left()
    assert status_of(run.run_dir)["restarts"] == {"reader": 1}
    again = resume_toy(run, TOY_STEP_S="0.001")
    assert again.wait() == 0
    assert again.summary["steps"] == 400 and again.summary["resumes"]


def test_shards_that_do_not_do_end_the_run_with_one_line(start_toy, shards):
    run = start_toy(*source(shards, "--generators.positives", "3"))
    assert run.wait() == 2
    [line, *_] = run.stderr.splitlines()
    assert line.startswith("error: reader exited with code 2: error: the shards in ")
    assert "60 have fewer images of their caption than generators.positives = 3" in line


def test_a_run_from_shards_is_not_replayed(shards, tmp_path):
    dump_config(load_config(None, source(shards)), tmp_path / "config.toml")
    with pytest.raises(UserError, match=r"trained from the shards in .* and has no journal to replay: run it again"):
        replay_of(tmp_path)


def test_a_folder_without_shards_is_refused_before_anything_starts(start_toy, tmp_path):
    run = start_toy(*source(tmp_path / "nowhere"))
    assert run.wait() == 2
    assert run.stderr == (
        f"error: --source shards:{tmp_path / 'nowhere'}: no such folder; name a folder that --record-shards or an "
        "export wrote\n"
    )
    assert not run.run_dir.exists()
