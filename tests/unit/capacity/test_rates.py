"""Rates of a plan: measured ones win over the reference figures, and what nobody knows is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.measured_rates import CaptionRate, MeasuredRates, TrainerRate
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


def test_a_measured_rate_replaces_its_reference_and_a_later_file_an_earlier_one(tmp_path):
    files = []
    for number, per_s in enumerate((3.0, 5.0)):
        (folder := tmp_path / str(number)).mkdir()
        files.append(written(folder, MeasuredRates(generators={"sd15": per_s}).as_json()))
    rates = find_rates(config_of(), files)
    assert (rates.generators["sd15"].per_s, rates.generators["sd15"].basis) == (5.0, "measured")
    assert rates.generators["sdxl_turbo"].basis == "literature" and rates.gpu == "as measured"


def test_captions_count_for_the_configs_source_and_models_only(tmp_path):
    config = config_of()
    models = {"writer": config.captions.writer, "editor": config.captions.editor}
    sources = {"vllm": 90.0, "transformers": 30.0}  # the second one is the default
    rates = {source: CaptionRate(captions_per_s=rate, **models) for source, rate in sources.items()}
    file = written(tmp_path, MeasuredRates(captions=rates).as_json())
    assert find_rates(config, [file]).captions.per_s == 30.0
    other = config.captions.model_copy(update={"writer": "mistralai/Mistral-7B-Instruct-v0.2"})
    assert find_rates(config.model_copy(update={"captions": other}), [file]).captions.basis == "estimate"


def test_a_rate_that_nobody_knows_is_asked_for_with_the_command_that_measures_it(tmp_path):
    with pytest.raises(UserError, match=r"no rate of generator flux_schnell: .*bench generators flux_schnell"):
        find_rates(config_of(("flux_schnell",)))
    with pytest.raises(UserError, match=r"no rate of train\.model = 'RN50'"):
        find_rates(config_of(model="RN50"))
    measured = written(tmp_path, MeasuredRates(trainer={"RN50": TrainerRate(images_per_s=1280)}).as_json())
    assert find_rates(config_of(model="RN50"), [measured]).trainer.per_s == 1280
    assert find_rates(config_of(), [measured]).trainer.basis == "estimate", "of another model"


def test_gradient_accumulation_encodes_twice(tmp_path):
    """Three parts of work, forward and backward, become four."""
    once = config_of()
    twice = once.model_copy(update={"train": once.train.model_copy(update={"accum_freq": 8})})
    measured = written(tmp_path, MeasuredRates(trainer={"ViT-B-16": TrainerRate(images_per_s=800)}).as_json())
    for files in ([], [measured]):
        fast, slow = find_rates(once, files).trainer, find_rates(twice, files).trainer
        assert slow.per_s == pytest.approx(0.75 * fast.per_s) and slow.basis == fast.basis
        assert slow.source == f"x 3/4, for train.accum_freq = 8 encodes twice; {fast.source}"


def test_a_rate_that_was_measured_with_accumulation_is_not_corrected_for_it_again(tmp_path):
    once = config_of()
    twice = once.model_copy(update={"train": once.train.model_copy(update={"accum_freq": 4})})
    rate = TrainerRate(images_per_s=600, accum_freq=8)
    file = written(tmp_path, MeasuredRates(trainer={"ViT-B-16": rate}).as_json())
    assert find_rates(twice, [file]).trainer.per_s == 600
    assert find_rates(once, [file]).trainer.per_s == pytest.approx(800)


@pytest.mark.parametrize("content", [[], {}, {"steps": 3}])
def test_a_file_without_rates_is_refused(tmp_path, content):
    with pytest.raises(UserError, match=r'rates\.json has no "rates": give what `bench generators`'):
        find_rates(config_of(), [written(tmp_path, content)])


def test_the_file_of_a_device_that_computes_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="rates is empty, as where nothing was timed"):
        find_rates(config_of(), [written(tmp_path, {"null_gpu": True, **MeasuredRates().as_json()})])


@pytest.mark.parametrize(
    ("rates", "where"),
    [
        ({"generators": {"sd15": 0}}, "rates.generators.sd15"),
        ({"captions": {"vllm": {"captions_per_s": "fast"}}}, "rates.captions.vllm.captions_per_s"),
        ({"trainer": {"ViT-B-16": {"images_per_s": -1}}}, "rates.trainer.ViT-B-16.images_per_s"),
        ({"renderers": {}}, "rates.renderers"),
    ],
)
def test_a_rate_that_is_none_is_refused_by_its_place(tmp_path, rates, where):
    with pytest.raises(UserError, match=rf"rates\.json: {where}: "):
        find_rates(config_of(), [written(tmp_path, {"rates": rates})])
