"""A rendered config has every key with its meaning, and loads again as the same config."""

from __future__ import annotations

import tomllib

import pytest

from polygen_stream.assets.resources import config_path, preset_names
from polygen_stream.config import RunConfig, load_config
from polygen_stream.config.keys import all_keys, sections
from polygen_stream.config.render import render_config, render_defaults, render_key, toml_value


def test_the_micro_preset_is_rendered_from_the_schema():
    text = config_path("micro").read_text(encoding="utf-8")
    assert text == render_defaults(), "write it anew: polygen-stream config --defaults > configs/micro.toml"


def test_every_key_and_section_has_a_meaning():
    for key in all_keys().values():
        assert key.meaning and key.meaning[0] + key.meaning[-1] != " ", key.name
        assert key.meaning.endswith("."), key.name
    assert all(heading.endswith(".") for heading in sections().values())


@pytest.mark.parametrize("name", preset_names())
def test_a_rendered_preset_loads_as_the_same_config(tmp_path, name):
    config = load_config(name)
    file = tmp_path / "rendered.toml"
    file.write_text(render_config(config, f"The preset {name}."))
    assert load_config(file) == config
    lines = file.read_text().splitlines()
    assert max(len(line) for line in lines if not line.startswith(("renderers", "recipes"))) <= 120


def test_a_value_that_differs_is_followed_by_its_default():
    text = render_config(load_config(None, ["--train.steps", "7", "--captions.concepts", ""]))
    [line] = [line for line in text.splitlines() if line.startswith("steps = ")]
    assert line == f"{'steps = 7':32}# [default: 1400] Optimizer steps of the run."
    assert text.count("[default: ") == 1


def test_one_section_alone():
    text = render_config(RunConfig(), names=["curriculum"])
    assert list(tomllib.loads(text)) == ["curriculum"]
    assert text.startswith("# Curriculum: ")


def test_choices_that_the_meaning_does_not_name_are_listed():
    for key in all_keys().values():
        if key.choices:
            text = render_config(RunConfig(), names=[key.section])
            assert all(f'"{choice}"' in text for choice in key.choices), key.name


def test_all_there_is_to_know_of_a_key():
    config = load_config(None, ["--train.beta2", "0.95"])
    assert render_key(all_keys()["train.beta2"], config).splitlines() == [
        "train.beta2 = 0.95",
        "  Second beta of AdamW.",
        "  type: number, at least 0, less than 1",
        "  default: 0.98",
        "  when a run is resumed: stays, for it decides what is trained",
    ]
    text = render_key(all_keys()["train.precision"], config)
    assert '  type: one of "auto", "fp32", "bf16"' in text.splitlines()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-8, "1e-8"),
        (0.5, "0.5"),
        (True, "true"),
        (10_000, "10000"),
        ('a"b\\c', '"a\\"b\\\\c"'),
        (("a", "b"), '["a", "b"]'),
        ({}, "{}"),
        ({"sd15": ("cuda:2",), "micro/sana": ()}, '{ sd15 = ["cuda:2"], "micro/sana" = [] }'),
    ],
)
def test_values_are_toml_on_one_line(value, text):
    assert toml_value(value) == text
    parsed = tomllib.loads(f"v = {text}")["v"]
    assert parsed == ({k: list(v) for k, v in value.items()} if isinstance(value, dict) else
                      list(value) if isinstance(value, tuple) else value)  # fmt: skip
