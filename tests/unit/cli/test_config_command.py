"""`polygen-stream config` prints configs that load again, sections, and what there is to know of a key."""

from __future__ import annotations

import tomllib

import pytest

from polygen_stream.assets.resources import config_path
from polygen_stream.base.errors import UserError
from polygen_stream.cli import app
from polygen_stream.config import load_config


@pytest.fixture
def printed(capsys):
    def run(*words: str) -> str:
        app(["config", *words], standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_the_defaults_are_the_micro_preset(printed):
    assert printed("--defaults") == config_path("micro").read_text(encoding="utf-8")


def test_the_resolved_config_is_toml_that_loads_as_the_same_config(printed, tmp_path):
    words = ["paper", "--train.steps", "7", "--name=mine"]
    text = printed(*words)
    file = tmp_path / "printed.toml"
    file.write_text(text)
    assert load_config(file) == load_config("paper", words[1:])
    assert text.startswith("# The config paper, with --train.steps 7 --name mine.\n")
    assert "# [default: 1400] Optimizer steps of the run." in text


def test_without_words_it_is_the_micro_preset(printed):
    assert tomllib.loads(printed()) == tomllib.loads(config_path("micro").read_text(encoding="utf-8"))


def test_a_section_of_a_config(printed):
    assert tomllib.loads(printed("paper", "evaluate"))["evaluate"]["tasks"] == ["sugarcrepe_pp_tot"]
    assert list(tomllib.loads(printed("evaluate", "paper"))) == ["evaluate"]


def test_a_key_has_meaning_type_bounds_default_and_value(printed):
    lines = printed("ring.error_buffer", "paper", "--ring.error_buffer", "5").splitlines()
    assert lines[0] == "ring.error_buffer = 5.0"
    assert lines[-3:-1] == ["  type: number, at least 0", "  default: 0.0"]
    assert lines[-1].startswith("  when a run is resumed: may change")
    assert any("rate limiter" in line for line in lines[1:-3])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.lrr"], "unknown key train.lrr: did you mean train.lr?"),
        (["train.accumulate"], "key train.accumulate has been renamed: write train.accum_freq"),
        (["--train.accumulate", "2"], "option --train.accumulate has been renamed: write --train.accum_freq"),
        (["nosuch"], "config nosuch does not exist"),
        (["train", "paper", "micro"], "unexpected argument 'micro'"),
        (["--defaults", "paper"], "--defaults takes no config, key or override: leave paper out"),
        (["--train.lr", "0"], "--train.lr = 0, expected more than 0"),
    ],
)
def test_what_cannot_be_printed_is_refused(printed, words, message):
    with pytest.raises(UserError) as refused:
        printed(*words)
    assert message in str(refused.value)
