"""Rates of a plan: measured ones win over the reference figures, and what nobody knows is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import RunConfig


def config_of(recipes: tuple[str, ...] = ("sd15", "sdxl_turbo"), model: str = "ViT-B-16") -> RunConfig:
    micro = RunConfig()
    return micro.model_copy(
        update={
            "generators": micro.generators.model_copy(update={"recipes": recipes}),
            "train": micro.train.model_copy(update={"model": model}),
        }
    )


def written(folder: Path, content: object) -> Path:
    path = folder / "rates.json"
    path.write_text(json.dumps(content))
    return path


def test_the_reference_says_of_every_figure_where_it_is_from():
    rates = find_rates(config_of(("sd15", "sd2", "sana", "sdxl_turbo")))
    everything = [*rates.generators.values(), rates.captions, rates.trainer]
    assert {rate.basis for rate in everything} == {"literature", "estimate"}
    assert all(rate.source and rate.per_s > 0 for rate in everything)
    assert rates.gpu == "A100-80G"


def test_the_fastest_measured_row_of_a_generator_replaces_its_reference(tmp_path):
    rows = [{"generator": "sd15", "backend": backend, "batch": 8, "images_per_s": rate} for backend, rate in
            (("eager", 3.0), ("tensorrt", 5.0), ("tensorrt-rtx", 4.0))]  # fmt: skip
    rates = find_rates(config_of(), [written(tmp_path, {"results": rows})])
    assert (rates.generators["sd15"].per_s, rates.generators["sd15"].basis) == (5.0, "measured")
    assert rates.generators["sdxl_turbo"].basis == "literature"


def test_captions_count_for_the_configs_source_only(tmp_path):
    rows = [{"source": source, "in_flight": 8, "captions_per_s": {"median": rate}} for source, rate in
            (("vllm", 90.0), ("transformers", 30.0))]  # fmt: skip
    assert find_rates(config_of(), [written(tmp_path, {"results": rows})]).captions.per_s == 30.0  # the default source


def test_a_rate_that_nobody_knows_is_asked_for_with_the_command_that_measures_it(tmp_path):
    with pytest.raises(UserError, match=r"no rate of generator flux_schnell: .*bench generators flux_schnell"):
        find_rates(config_of(("flux_schnell",)))
    with pytest.raises(UserError, match=r"no rate of train\.model = 'RN50'"):
        find_rates(config_of(model="RN50"))
    measured = written(tmp_path, {"model": "RN50", "batch": 64, "step_ms": {"ours": 50.0, "open_clip": 60.0}})
    assert find_rates(config_of(model="RN50"), [measured]).trainer.per_s == 1280
    assert find_rates(config_of(), [measured]).trainer.basis == "estimate", "of another model"


def test_gradient_accumulation_encodes_twice(tmp_path):
    """Three parts of work, forward and backward, become four."""
    once = config_of()
    twice = once.model_copy(update={"train": once.train.model_copy(update={"accum_freq": 8})})
    measured = written(tmp_path, {"model": "ViT-B-16", "batch": 64, "step_ms": {"ours": 80.0, "open_clip": 90.0}})
    for files in ([], [measured]):
        fast, slow = find_rates(once, files).trainer, find_rates(twice, files).trainer
        assert slow.per_s == pytest.approx(0.75 * fast.per_s) and slow.basis == fast.basis
        assert slow.source == f"x 3/4, for train.accum_freq = 8 encodes twice; {fast.source}"


@pytest.mark.parametrize("content", [[], {}, {"steps": 3}])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    with pytest.raises(UserError, match="is not what `bench generators`"):
        find_rates(config_of(), [written(tmp_path, content)])
