"""Texts that users write: read with a byte order mark and in UTF-16; any other encoding is refused in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polygen_stream.assets.model_configs import read_model_config
from polygen_stream.assets.resources import experiment_path, recipe_path
from polygen_stream.audit.verdicts import read_verdicts
from polygen_stream.base.errors import UserError
from polygen_stream.capacity.rates import find_rates
from polygen_stream.captions.banks.concepts import load_bank, read_lines
from polygen_stream.config import load_config
from polygen_stream.experiment.load import load_experiment
from polygen_stream.generators.recipe import load_recipe

MODEL = {"embed_dim": 32, "vision_cfg": {}, "text_cfg": {}}
RATES = {"rates": {"generators": {"micro/sd15": 3.5}, "trainer": {"micro": {"images_per_s": 12800.0}}}}


def _rates(file: Path) -> object:
    return find_rates(load_config("micro", {"generators.recipes": "micro/sd15", "captions.source": "grammar"}), [file])


READERS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "config": (load_config, "run.toml", "name = 'mine'\n[train]\nsteps = 1200\n"),
    "recipe": (lambda file: load_recipe(str(file)).sampling, "mine.toml", recipe_path("micro/sd15").read_text()),
    "experiment": (load_experiment, "e.toml", experiment_path("image-image").read_text()),
    "bank": (lambda file: load_bank(str(file)), "bank.json", '["dog", "crème brûlée"]'),
    "captions": (lambda file: read_lines(file, "captions"), "captions.txt", "a dog\r\na café\r\n"),
    "model config": (read_model_config, "clip.json", json.dumps(MODEL)),
    "verdicts": (read_verdicts, "verdicts.csv", "axis,right\nreplace_colour,true\n"),
    "verdicts as JSON": (
        read_verdicts,
        "v.json",
        json.dumps({"verdicts": [{"axis": "replace_colour", "right": True}]}),
    ),
}


@pytest.fixture
def pool(tmp_path):
    """The pool that an experiment without one of its own finds beside it."""
    (tmp_path / "pool.toml").write_bytes(experiment_path("image-image").with_name("pool.toml").read_bytes())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", READERS)
def test_an_encoding_with_a_byte_order_mark_says_the_same(kind, encoding, tmp_path, pool):
    read, name, text = READERS[kind]
    file = tmp_path / name
    file.write_bytes(text.encode("utf-8"))
    plain = read(file)
    file.write_bytes(text.encode(encoding))
    assert read(file) == plain


@pytest.mark.parametrize("kind", READERS)
def test_another_encoding_is_refused_in_one_line_that_names_the_file(kind, tmp_path, pool):
    read, name, text = READERS[kind]
    file = tmp_path / name
    file.write_bytes(text.encode("utf-8") + b"# caf\xe9")
    with pytest.raises(UserError, match=r"is not UTF-8: line \d+, byte \d+ is 0xe9") as refused:
        read(file)
    assert name in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "3",
        '{"rates": 3}',
        '{"rates": {"generators": [3]}}',
        '{"rates": {"generators": {"micro/sd15": []}}}',
        '{"rates": {"trainer": {"micro": {}}}}',
        '{"rates": {}}',
        "[" * 9999,
    ],
)
def test_rates_of_another_form_are_refused(content, tmp_path):
    (tmp_path / "rates.json").write_text(content)
    with pytest.raises(UserError, match=r"rates\.json"):
        _rates(tmp_path / "rates.json")


def test_rates_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "rates.json").write_bytes(json.dumps(RATES).encode("utf-8-sig"))
    assert _rates(tmp_path / "rates.json").generators["micro/sd15"].per_s == 3.5


@pytest.mark.parametrize("deep", ["a = " + "[" * 9999, "a = " + "1" * 5000], ids=["nested", "digits"])
def test_toml_that_python_cannot_hold_is_refused(deep, tmp_path):
    (tmp_path / "run.toml").write_text(deep)
    with pytest.raises(UserError, match="is not valid TOML"):
        load_config(tmp_path / "run.toml")
    with pytest.raises(UserError, match="expected an integer"):
        load_config(None, {"train.steps": deep.removeprefix("a = ")})
