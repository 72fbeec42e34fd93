"""Renamed keys and options are refused with the name they have now."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.config import config_keys, load_config
from polygen_stream.config.renamed import RENAMED_KEYS, RENAMED_OPTIONS

OLD_AND_NEW = [
    ("captions.memory_share", "captions.gpu_memory_utilization"),
    ("captions.pattern", "captions.structured_output_regex"),
    ("captions.rest_after_s", "captions.sleep_after_s"),
    ("launch.tee", "launch.record_shards"),
    ("launch.tee_pictures", "launch.shard_images"),
    ("launch.turn_s", "launch.time_slice_s"),
    ("train.accumulate", "train.accum_freq"),
    ("train.checkpoint_pictures", "train.checkpoint_images"),
    ("train.ema", "train.ema_decay"),
]


def test_the_table_leads_from_names_that_are_gone_to_names_that_exist():
    assert dict(OLD_AND_NEW) == RENAMED_KEYS
    assert not set(RENAMED_KEYS) & set(config_keys())
    assert set(RENAMED_KEYS.values()) <= set(config_keys())


@pytest.mark.parametrize(("old", "new"), OLD_AND_NEW)
def test_a_renamed_key_in_a_file_is_refused_with_its_new_name(tmp_path, old, new):
    section, _, leaf = old.partition(".")
    file = tmp_path / "run.toml"
    file.write_text(f"[{section}]\n{leaf} = 1\n")
    with pytest.raises(UserError, match=rf"run\.toml: key {old} has been renamed: write {new}$"):
        load_config(file)


@pytest.mark.parametrize(("old", "new"), [*OLD_AND_NEW, *RENAMED_OPTIONS.items()])
def test_a_renamed_override_or_option_is_refused_with_its_new_name(old, new):
    for words in ([f"--{old}", "1"], [f"--{old}=1"]):
        with pytest.raises(UserError, match=rf"^option --{old} has been renamed: write --{new}$"):
            load_config(None, words)
    with pytest.raises(UserError, match=rf"--{old} has been renamed: write --{new}$"):
        load_config(None, {old: "1"})
