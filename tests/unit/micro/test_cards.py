"""The cards describe the shipped weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.assets.resources import SHIPPED_WEIGHTS, weights_hash
from polygen_stream.micro.training.card import read_card
from polygen_stream.micro.training.recipes import RECIPES, UNSHIPPED

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = [name for name in RECIPES if name not in UNSHIPPED]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_weights_are_those_of_the_card(name: str):
    card = read_card(SHIPPED_WEIGHTS / name)
    assert card["sha256"] == weights_hash(SHIPPED_WEIGHTS / name), "weights changed after the card was written"
    assert len(card["cycles"]) == len(RECIPES[name])
    for done, cycle in zip(card["cycles"], RECIPES[name], strict=True):
        assert (done["steps"], done["batch"], done["seed"]) == (cycle.steps, cycle.batch, cycle.seed)
        assert done["command"].startswith("python tools/train_micro.py") and done["minutes"] > 0
    assert name == "oracle" or card["metrics"]


def test_a_changed_tensor_changes_the_hash(tmp_path):
    for name, byte in (("a", b"\1"), ("b", b"\1"), ("c", b"\2")):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "model.safetensors").write_bytes(byte)
    first, same, other = (weights_hash(tmp_path / name) for name in "abc")
    assert first == same != other


def test_all_micro_models_together_are_small_enough_for_the_wheel():
    files = [file for file in SHIPPED_WEIGHTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 40 * 10**6


def test_a_complete_model_is_not_trained_again():
    before = weights_hash(SHIPPED_WEIGHTS / "mistral")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "train_micro.py"), "mistral"], capture_output=True, text=True, check=True
    )
    assert "mistral has every cycle of its recipe" in done.stderr
    assert weights_hash(SHIPPED_WEIGHTS / "mistral") == before
