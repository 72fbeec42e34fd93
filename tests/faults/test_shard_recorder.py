"""The shard recorder on toy runs: every caption once, whichever process dies, and a run that does not depend on it."""

from __future__ import annotations

import json
import signal
import tarfile
from collections import Counter
from pathlib import Path

from launched_runs import Launched

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.config import dump_config, load_config
from polygen_stream.launch.replay import replay_of
from polygen_stream.launch.watch.status_query import status_of

# The ring has room for all captions, so that none has to be missing.
SETTINGS = ("--captions.target", "60", "--launch.shard_images", "40")


def pictures(folder: Path) -> Counter:
    """How often each caption (task) has a picture in complete shards."""
    found = Counter()
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            found.update(int(name[:9]) for name in tar.getnames() if name.endswith(".png"))
    return found


def every_caption_once(folder: Path) -> bool:
    return pictures(folder) == dict.fromkeys(range(60), 4)


def killed_and_resumed(start_toy, resume_toy, shards: Path, *words: str) -> Launched:
    run = start_toy(*SETTINGS, "--launch.record_shards", str(shards), "--train.steps", "200", *words, TOY_STEP_S="0.02")
    run.wait_until(lambda: sum(pictures(shards).values()) >= 80, "two shards")
    run.process("supervisor").send_signal(signal.SIGKILL)
    run.wait()
    run.assert_nothing_left()
    return resume_toy(run, TOY_STEP_S="0.001")


def test_shards_grow_while_the_run_goes_on_and_have_everything_in_the_end(start_toy, tmp_path):
    shards = tmp_path / "shards"
    run = start_toy(
        *SETTINGS, "--launch.record_shards", str(shards), "--train.steps", "100", "--generators.negatives", "2"
    )
    run.wait_until(lambda: pictures(shards), "the first shard")
    assert run.popen.poll() is None and status_of(run.run_dir)["recorder"]["folder"] == str(shards)
    assert run.wait() == 0
    run.assert_nothing_left()
    assert every_caption_once(shards)
    assert sum(json.loads((shards / "sizes.json").read_text()).values()) == 240
    assert run.summary["recorder"] == {
        "folder": str(shards), "captions": 60, "pictures": 240, "shards": 6, "missing": 0, "given_up": [],
    }  # fmt: skip
    assert "60 captions, 240 pictures" in run.stdout
    with tarfile.open(shards / "000000.tar") as tar:
        what = json.load(tar.extractfile("000000000-0003.json"))
        assert tar.extractfile("000000000-0003.txt").read() == b"negative 0"
    assert what == {"task": 0, "member": 3, "polarity": "negative", "generator": "micro/sana", "seed": 7}


def test_a_tee_that_is_killed_goes_on_without_gap_or_double(start_toy, tmp_path):
    shards = tmp_path / "shards"
    run = start_toy(*SETTINGS, "--launch.record_shards", str(shards), "--train.steps", "100")
    run.wait_until(lambda: pictures(shards), "the first shard")
    run.process("recorder").kill()
    assert run.wait() == 0
    assert [event["process"] for event in run.summary["restarts"]] == ["recorder"]
    assert every_caption_once(shards) and run.summary["recorder"]["missing"] == 0


def test_a_run_that_is_killed_and_resumed_writes_no_caption_twice(start_toy, resume_toy, tmp_path):
    run = killed_and_resumed(start_toy, resume_toy, tmp_path / "shards")
    assert run.wait() == 0
    assert every_caption_once(tmp_path / "shards") and run.summary["recorder"]["missing"] == 0
    assert run.summary["resumes"]


def test_a_tee_that_cannot_write_is_given_up_and_the_run_goes_on(start_toy, tmp_path):
    shards = tmp_path / "shards"
    run = start_toy(*SETTINGS, "--launch.record_shards", str(shards), "--train.steps", "100")
    run.wait_until(lambda: pictures(shards), "the first shard")
    (shards / "000099.tar").write_bytes(b"somebody put this here")
    run.process("recorder").kill()
    assert run.wait() == 0
    [event] = [event for event in read_jsonl(run.run_dir / "events.jsonl") if event["event"] == "recorder"]
    assert "000099.tar is no shard of a run, or damaged" in event["reason"]
    assert run.summary["steps"] == 100 and run.summary["recorder"]["given_up"] == [event["reason"]]
    assert run.summary["recorder"]["missing"] == 60 - run.summary["recorder"]["captions"]


def test_a_folder_that_holds_something_is_refused_before_anything_starts(start_toy, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "precious").write_text("mine")
    run = start_toy("--launch.record_shards", str(tmp_path / "shards"))
    assert run.wait() == 2
    assert run.stderr == (
        f"error: --record-shards {tmp_path / 'shards'} is not empty, and this run did not write it: choose another, or "
        "move it away\n"
    )
    assert not run.run_dir.exists()


def test_too_little_room_for_the_shards_is_refused(start_toy, tmp_path):
    run = start_toy("--launch.record_shards", str(tmp_path / "shards"), "--captions.target", "100000000000")
    assert run.wait() == 2
    assert "but shards of up to 400000000000 pictures need up to" in run.stderr and len(run.stderr.splitlines()) == 1
    assert not run.run_dir.exists() and not (tmp_path / "shards").exists()


def test_a_replay_has_no_recorder(tmp_path):
    """The folder has the pictures already."""
    dump_config(
        load_config(None, {"launch.record_shards": "shards", "train.steps": "1", "curriculum.end": "0"}),
        tmp_path / "config.toml",
    )
    (tmp_path / "journal.jsonl").touch()
    (tmp_path / "draw_log.jsonl").write_text('{"step": 0, "plain": [], "pair": [], "generations": []}\n')
    config, _ = replay_of(tmp_path)
    assert config.launch.record_shards == ""


def test_the_option_is_the_key(tmp_path, monkeypatch):
    from polygen_stream import cli

    configs = []
    monkeypatch.setattr("polygen_stream.launch.supervise.supervise", lambda config, *_: configs.append(config) or 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["polygen-stream", "run", "--record-shards", "shards", "--seed", "3"])
    try:
        cli.main()
    except SystemExit as done:
        assert done.code == 0
    assert configs == [load_config(None, {"launch.record_shards": str(tmp_path / "shards"), "seed": "3"})]
