"""What becomes of a run whose config.toml was edited before it is resumed."""

from __future__ import annotations

import re
import signal

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.checkpoints import list_checkpoints


def edit(run, key: str, value: str) -> None:
    config = run.run_dir / "config.toml"
    text, count = re.subn(rf"(?m)^{key} = .*", f"{key} = {value}", config.read_text())
    assert count == 1
    config.write_text(text)


def content(run) -> dict:
    return {path: path.read_bytes() for path in run.run_dir.rglob("*") if path.is_file()}


def test_a_key_that_decides_training_is_refused_and_others_are_free(start_toy, resume_toy):
    run = start_toy("--train.steps", "5000", "--captions.target", "0")
    run.wait_until(lambda: run.steps() > 30, "thirty steps")
    run.process("supervisor").send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM
    reached, before, config = run.steps(), content(run), (run.run_dir / "config.toml").read_text()

    edit(run, "lr", "0.5")
    refused = resume_toy(run)
    assert refused.wait() == 2
    assert "config.toml: train.lr = 0.5, but the run trains with 0.0015" in refused.stderr, refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    (run.run_dir / "config.toml").write_text(config)
    assert content(run) == before, "nothing is touched"
    (run.run_dir / "config.toml").write_text("")
    emptied = resume_toy(run)
    assert emptied.wait() == 2 and "config.toml is empty: restore it" in emptied.stderr
    (run.run_dir / "config.toml").write_text(config)
    assert content(run) == before

    edit(run, "draw_timeout_s", "600.0")
    edit(run, "steps", str(reached + 5))
    longer = resume_toy(run)
    assert longer.wait() == 0, longer.stderr
    assert longer.stderr.startswith(
        f"train.steps = {reached + 5} from step {reached} on, 5000 before: the learning rate"
    )
    assert [line["step"] for line in read_jsonl(run.run_dir / "metrics.jsonl")] == list(range(reached + 5))
    assert not list(run.run_dir.glob("checkpoints/unusable-*"))

    edit(run, "steps", str(reached + 8))  # a completed run is trained longer
    again = resume_toy(run)
    assert again.wait() == 0, again.stderr
    assert list_checkpoints(run.run_dir)[-1][0] == reached + 8
    edit(run, "steps", "7")
    assert resume_toy(run).wait() == 2
