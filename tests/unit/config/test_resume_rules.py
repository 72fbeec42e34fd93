"""Which keys of a run may change when it is resumed: those that do not decide what it trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.checkpoints import config_hash
from polygen_stream.config import RunConfig, allowed_changes, effects, load_config, settings
from polygen_stream.config.keys import all_keys

FILE = Path("run") / "config.toml"
FREE = {
    "name": "other",
    "captions.endpoint": "http://127.0.0.1:9/v1",
    "captions.device": "cuda:1",
    "generators.batch": "4",
    "generators.backend": "eager",
    "ring.draw_timeout_s": "600",
    "ring.open_timeout_s": "900",
    "train.checkpoint_every": "100",
    "train.checkpoint_images": "false",
    "train.keep_checkpoints": "9",
    "train.accum_freq": "2",
    "train.prefetch": "false",
    "evaluate.every": "0",
    "evaluate.tasks": "sugarcrepe_pp_tot",
    "launch.record_shards": "/moved/tee",
    "launch.hang_timeout_s": "900",
}
FIXED = {
    "seed": "1",
    "captions.temperature": "1.0",
    "generators.recipes": "micro/sd15",
    "generators.positives": "3",
    "ring.slots": "24576",
    "curriculum.end": "0.4",
    "train.lr": "1e-3",
    "train.batch": "64",
    "train.objective": "negclip",
    "launch.nodes": "2",
}


def recorded(config: RunConfig) -> dict:
    return json.loads(json.dumps(settings(config)))  # as provenance.json has them


def test_every_key_of_the_schema_says_what_a_resumed_run_may_do_with_it():
    assert {key.at_resume for key in all_keys().values()} == {"fixed", "onward", "free"}
    assert {name for name, key in all_keys().items() if key.at_resume == "onward"} == {
        "captions.target", "ring.max_age", "ring.max_times_sampled", "ring.samples_per_insert", "ring.error_buffer",
        "synthesis.by", "synthesis.candidates", "synthesis.half_life", "synthesis.policy", "synthesis.sharpness",
        "synthesis.uniform_share", "synthesis.yields", "train.steps",
    }  # fmt: skip


def test_keys_that_do_not_decide_what_is_trained_are_free():
    changed = load_config(None, FREE)
    assert allowed_changes(recorded(RunConfig()), changed, FILE) == []
    assert config_hash(changed) == config_hash(RunConfig())


@pytest.mark.parametrize("key", FIXED)
def test_a_key_that_decides_it_is_refused_with_both_values(key):
    before, now = RunConfig(), load_config(None, {key: FIXED[key]})
    with pytest.raises(UserError) as caught:
        allowed_changes(recorded(before), now, FILE)
    message = str(caught.value)
    for config in (before, now):
        value = recorded(config)[key]
        assert (
            f'"{value}"' if isinstance(value, str) else str(value[0] if isinstance(value, list) else value)
        ) in message
    assert message.startswith(f"{FILE}: {key} = ") and "--run-dir NEW" in message and "\n" not in message
    assert config_hash(now) != config_hash(before)


def test_a_config_that_lost_its_keys_names_the_first_ones():
    before = load_config(None, FIXED | {"captions.target": "9000"})
    with pytest.raises(
        UserError,
        match=r"seed = 0, but the run trains with 1, .*; likewise captions.temperature \(1.0\), .* and 7 more",
    ):
        allowed_changes(recorded(before), RunConfig(), FILE)


def test_a_run_may_be_made_longer_and_says_what_that_changes():
    before, now = RunConfig(), load_config(None, {"train.steps": "2800", "captions.target": "9000"})
    target, steps = effects(allowed_changes(recorded(before), now, FILE), now, step=700)
    assert target == "captions.target = 9000 from step 700 on, 3600 before"
    assert steps.startswith(
        "train.steps = 2800 from step 700 on, 1400 before: the learning rate goes on at 0.0013 instead"
    )
    assert "the share of hard negatives at 0.125 instead of 0.25" in steps
    assert config_hash(now) == config_hash(before)


def test_a_constant_rate_stays_when_a_run_is_made_longer_before_its_decay():
    constant = {"train.lr_decay": "sqrt", "train.lr_decay_share": "0.2"}
    before, now = load_config(None, constant), load_config(None, constant | {"train.steps": "2800"})
    [steps] = effects(allowed_changes(recorded(before), now, FILE), now, step=700)
    assert "the learning rate goes on at 0.0015, as it was, the share of hard negatives at 0.125 instead" in steps


@pytest.mark.parametrize("key", ["train.steps", "captions.target"])
def test_what_decides_the_draws_of_a_deterministic_run_is_fixed(key):
    before = load_config(None, {"ring.mode": "deterministic"})
    now = load_config(None, {"ring.mode": "deterministic", key: "3601"})
    with pytest.raises(UserError, match=f"{key} = 3601, but the run trains with"):
        allowed_changes(recorded(before), now, FILE)


def test_files_may_be_moved_and_names_may_have_changed_since(tmp_path):
    (tmp_path / "my_clip.json").write_text("{}")
    moved = [
        load_config(None, {"train.model": f"{folder}/my_clip.json", "captions.writer": f"{folder}/mistral"})
        for folder in (tmp_path, "/elsewhere")
    ]
    assert allowed_changes(recorded(moved[0]), moved[1], FILE) == []
    shards = [load_config(None, {"captions.source": "shards", "captions.shards": f"/{disk}/s"}) for disk in "ab"]
    assert allowed_changes(recorded(shards[0]), shards[1], FILE) == []
    earlier = recorded(RunConfig())
    earlier["captions.pattern"] = earlier.pop("captions.structured_output_regex")  # its name in an earlier release
    del earlier["train.grad_clip"]  # which an earlier release did not have
    assert allowed_changes(earlier, RunConfig(), FILE) == []
