"""Experiment files: what is accepted, and what a mistake is answered with."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from safetensors.numpy import save_file

from polygen_stream.assets import resources
from polygen_stream.assets.resources import SHIPPED_WEIGHTS, experiment_path, recipe_path
from polygen_stream.base.errors import UserError
from polygen_stream.experiment import spec
from polygen_stream.experiment.load import load_experiment
from polygen_stream.experiment.results import read_results
from polygen_stream.experiment.spec import settings_hash

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(p for p in (ROOT / "configs" / "experiments").glob("*.toml") if p.name != "pool.toml")


def values() -> dict:
    return {
        "name": "small",
        "title": "Small",
        "steps": 4,
        "images_per_step": 16,
        "baseline": "one",
        "learning_rates": [1e-3],
        "pool": {
            "seed": 0,
            "captions": 96,
            "held_out": 32,
            "generators": ["micro/sana", "micro/sdxl_turbo"],
            "layers": [{"captions": 64}, {"captions": 32, "copies": 2}, {"captions": 32, "negatives": True}],
        },
        "arms": [
            {"name": "one", "captions": 64, "positives": 1, "ensembles": [["micro/sana"]]},
            {"name": "both", "captions": 32, "positives": 2, "ensembles": [["micro/sana", "micro/sdxl_turbo"]]},
        ],
        "contrasts": [{"arm": "both", "against": "one", "question": "two generators?"}],
    }


def load(tmp_path: Path, changed: dict):
    path = tmp_path / "small.toml"
    path.write_text(tomli_w.dumps(changed))
    return load_experiment(path)


def refused(tmp_path: Path, changed: dict, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        load(tmp_path, changed)
    assert "small.toml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_experiments_can_be_run(path: Path):
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    for arm in experiment.arms:
        experiment.run_config(arm, experiment.learning_rates[0], 0)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_committed_results_are_those_of_the_shipped_experiments_or_older(path: Path):
    table = ROOT / "docs" / "results" / f"{path.stem}.csv"
    rows = len(table.read_text().splitlines()) - 1
    older = "**Measured with an earlier version**" in table.with_suffix(".md").read_text()
    assert rows >= 10 and len(read_results(table, load_experiment(path))) == (0 if older else rows)


def test_settings_change_with_what_decides_a_run_and_with_nothing_else(tmp_path: Path):
    def hashes(change) -> list[str]:
        changed = values()
        change(changed)
        experiment = load(tmp_path, changed)
        return [settings_hash(experiment, arm) for arm in experiment.arms]

    before = hashes(lambda v: None)
    assert hashes(lambda v: v["arms"][0].update(name="uno") or v.update(baseline="uno", contrasts=[])) == before
    assert hashes(lambda v: v["arms"][0].update(seeds=7, images_per_step=0, config={})) == before
    assert hashes(lambda v: v.update(seeds=9, title="Other")) == before
    other = hashes(lambda v: v["arms"][0].update(captions=63))
    assert other[0] != before[0] and other[1] == before[1]
    for change in ({"steps": 5}, {"images_per_step": 18}, {"config": {"train.ema_decay": 0.9}}):
        assert not set(hashes(lambda v, change=change: v.update(change))) & set(before)


def test_settings_change_with_the_models_config_and_the_version_of_the_trial_code(tmp_path: Path, monkeypatch):
    model = json.loads((ROOT / "polygen_stream" / "train" / "model_configs" / "micro.json").read_text())
    own = tmp_path / "own.json"

    def hashes(changed: dict) -> list[str]:
        experiment = load(tmp_path, changed)
        return [settings_hash(experiment, arm) for arm in experiment.arms]

    with_own = values() | {"config": {"train.model": "own.json"}}
    own.write_text(json.dumps(model))
    before = hashes(with_own)
    own.write_text(json.dumps(model | {"embed_dim": 2 * model["embed_dim"]}))
    assert not set(hashes(with_own)) & set(before)
    own.write_text(json.dumps(model))
    assert hashes(with_own) == before
    monkeypatch.setattr(spec, "TRIAL_VERSION", spec.TRIAL_VERSION + 1)
    assert not set(hashes(with_own)) & set(before)


@pytest.fixture
def own_generator(tmp_path: Path) -> Path:
    """A recipe file with small weights beside it, to be hashed and not to be loaded."""
    for part in ("unet", "vae"):
        (tmp_path / "weights" / part).mkdir(parents=True)
        save_file({"w": np.zeros(3, np.float32)}, tmp_path / "weights" / part / "diffusion_pytorch_model.safetensors")
    (tmp_path / "weights" / "model_index.json").write_text("{}")
    recipe = tmp_path / "own.toml"
    recipe.write_text(recipe_path("micro/sd15").read_text().replace('"package:sd15"', '"./weights"'))
    return recipe


def test_changed_weights_or_pool_code_make_the_pool_and_its_rows_stale(
    tmp_path: Path, own_generator: Path, monkeypatch
):
    changed = values()
    changed["pool"]["generators"].append("own.toml")
    experiment = load(tmp_path, changed)

    def names() -> tuple[str, str]:
        return experiment.pool.name, settings_hash(experiment, experiment.arms[0])

    before = names()
    assert names() == before
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "weights" / "unet" / "diffusion_pytorch_model.safetensors")
    retrained = names()
    own_generator.write_text(own_generator.read_text().replace("num_inference_steps = 14", "num_inference_steps = 15"))
    resampled = names()
    monkeypatch.setattr(spec, "POOL_VERSION", spec.POOL_VERSION + 1)
    for one, other in itertools.combinations((before, retrained, resampled, names()), 2):
        assert one[0] != other[0] and one[1] != other[1]


def test_retrained_language_models_make_another_pool(tmp_path: Path, monkeypatch):
    pool = load(tmp_path, values()).pool
    before = pool.name
    copy = tmp_path / "shipped"
    shutil.copytree(SHIPPED_WEIGHTS, copy)
    monkeypatch.setattr(resources, "SHIPPED_WEIGHTS", copy)
    assert pool.name == before  # where they lie is not what they are
    [weights] = (copy / "llama").rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert pool.name != before


def test_generators_without_weights_are_named_in_one_line(tmp_path: Path, own_generator: Path):
    changed = values()
    changed["pool"]["generators"].append("own.toml")
    (tmp_path / "weights" / "model_index.json").unlink()
    with pytest.raises(UserError, match=r"generator own: its weights are not on this machine: .*/weights"):
        _ = load(tmp_path, changed).pool.name


def test_seeds_take_turns_with_the_pools(tmp_path: Path):
    experiment = load(tmp_path, values() | {"pools": 2})
    assert [experiment.pool_number(seed) for seed in (0, 1, 2, 3, 1000)] == [0, 1, 0, 1, 0]
    pools = [experiment.numbered_pool(number) for number in range(2)]
    assert [pool.seed for pool in pools] == [0, 1] and pools[0].name != pools[1].name
    assert pools[0].name == load(tmp_path, values()).pool.name


def test_a_layer_of_more_captions_than_arms_may_train_on(tmp_path: Path):
    changed = values()
    changed["pool"]["layers"][0]["captions"] = 65
    refused(tmp_path, changed, "a layer has 65 captions, but the pool 96, 32 of them held out")


def test_held_out_captions_are_enough_for_the_generator_probe_or_none(tmp_path: Path):
    changed = values()
    changed["pool"]["held_out"] = 7
    refused(tmp_path, changed, r"pool.held_out = 7 is too few captions for the generator probe: 8 or more, or 0")
    for held_out in (8, 0):
        changed["pool"]["held_out"] = held_out
        assert load(tmp_path, changed).pool.has_probe == (held_out > 0)


def test_arms_of_equal_images_have_equal_images_per_step(tmp_path: Path):
    experiment = load(tmp_path, values())
    batches = {arm.name: experiment.run_config(arm, 1e-3, 0).train.batch * arm.positives for arm in experiment.arms}
    assert batches == {"one": 16, "both": 16}
    assert [arm.images for arm in experiment.arms] == [64, 64]


def test_copies_of_a_pool(tmp_path: Path):
    pool = load(tmp_path, values()).pool
    assert pool.copies("micro/sana", negatives=False) == [64, 32]
    assert pool.copies("micro/sana", negatives=True) == [32]


def test_another_pool_has_another_name(tmp_path: Path):
    one, other = values(), values()
    other["pool"]["seed"] = 1
    assert load(tmp_path, one).pool.name != load(tmp_path, other).pool.name


def test_the_run_config_takes_the_keys_of_experiment_and_arm(tmp_path: Path):
    changed = values()
    changed["config"] = {"train.weight_decay": 0.2, "train.ema_decay": 0.5}
    changed["arms"][1]["config"] = {"train.ema_decay": 0.9}
    experiment = load(tmp_path, changed)
    one, both = (experiment.run_config(arm, 1e-3, 7) for arm in experiment.arms)
    assert (one.train.weight_decay, one.train.ema_decay, both.train.ema_decay, both.seed) == (0.2, 0.5, 0.9, 7)


def test_an_unknown_key_names_the_nearest(tmp_path: Path):
    changed = values() | {"stepz": 5}
    refused(tmp_path, changed, "stepz.*did you mean steps")


def test_an_unknown_key_of_an_arm_names_the_nearest(tmp_path: Path):
    changed = values()
    changed["arms"][0]["positive"] = 1
    refused(tmp_path, changed, r"arms\.0\.positive.*did you mean positives")


def test_an_unknown_config_key_names_the_nearest(tmp_path: Path):
    refused(tmp_path, values() | {"config": {"train.emaa": 0.5}}, "train.emaa.*did you mean.*train.ema_decay")


def test_an_arm_that_is_not_there_names_the_nearest(tmp_path: Path):
    refused(tmp_path, values() | {"baseline": "onee"}, "no arm 'onee': did you mean 'one'")


def test_two_arms_of_one_name(tmp_path: Path):
    changed = values()
    changed["arms"][1]["name"] = "one"
    refused(tmp_path, changed, "two arms are called 'one'")


def test_an_arm_that_needs_more_than_the_pool_has(tmp_path: Path):
    changed = values()
    changed["arms"][0]["positives"] = 2
    refused(tmp_path, changed, r"arm one needs 2 positives by micro/sana of 64 captions.*\[64, 32\]")


def test_hard_negatives_need_their_pictures(tmp_path: Path):
    changed = values() | {"config": {"curriculum.end": 0.5}}
    refused(tmp_path, changed, r"arm one needs 1 negatives by micro/sana of 64 captions.*\[32\]")


def test_captions_for_measurements_are_nobodys(tmp_path: Path):
    changed = values()
    changed["arms"][0]["captions"] = 65
    refused(tmp_path, changed, "arm one has 65 captions, but the pool 96, 32 of them held out")


def test_a_batch_larger_than_the_arm(tmp_path: Path):
    refused(tmp_path, values() | {"images_per_step": 128}, "arm one: a batch has 128 texts, but the arm 64 captions")


def test_a_ring_needs_size_and_reuse(tmp_path: Path):
    changed = values()
    changed["arms"][0]["buffer"] = 32
    refused(tmp_path, changed, "arm one: buffer is 32 and reuse 0")
    changed["arms"][0] |= {"reuse": 4, "config": {"ring.catch_up": 2.0}}
    refused(tmp_path, changed, "arm one: ring.catch_up = 2 needs a ring .* all 64 captions, and its buffer is 32")
    changed["arms"][0]["config"] = {"curriculum.kind": "co_occurrence"}
    refused(tmp_path, changed, "arm one goes through a ring, which needs curriculum.kind = 'share'")


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"there is no experiment .*no\.toml"):
        load_experiment(tmp_path / "no.toml")


def test_learning_rates_that_are_no_list(tmp_path: Path):
    text = experiment_path("table1").read_text().replace("learning_rates = [", "learning_rates = 3 # [")
    (tmp_path / "e.toml").write_text(text)
    (tmp_path / "pool.toml").write_text(experiment_path("table1").with_name("pool.toml").read_text())
    with pytest.raises(UserError, match=r"e\.toml: learning_rates: expected a list, got 3"):
        load_experiment(tmp_path / "e.toml")


def test_a_file_that_is_no_toml(tmp_path: Path):
    (tmp_path / "bad.toml").write_text("name =")
    with pytest.raises(UserError, match=r"bad\.toml is not valid TOML"):
        load_experiment(tmp_path / "bad.toml")
