"""The plots of the closed loop of a run with known feedback."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_folders import make_run

from polygen_stream.config import load_config
from polygen_stream.report.run_data import RunData, read_run_data
from polygen_stream.report.synthesis_plots import synthesis_plots

AXES = [f"axis_{i}" for i in range(8)]


def lines(margin: bool = True) -> list[dict]:
    """Axis 0 weighs most and ends with margin 0.00, axis 7 weighs least and ends with 0.70."""
    return [
        {
            "step": step,
            "feedback": {
                "axes": {
                    name: {"loss": 2.0 - 0.1 * i, "correct": 0.5, "weight": 2.0 - 0.2 * i}
                    | ({"margin": 0.1 * i * step / 3} if margin else {})
                    for i, name in enumerate(AXES)
                },
                "generators": {},
            },
        }
        for step in range(4)
    ]


@pytest.fixture
def run(tmp_path) -> RunData:
    config = load_config("micro", {"synthesis.policy": "hardest"})
    return replace(
        read_run_data(make_run(tmp_path / "run")), config=config, metrics=lines(), axes=AXES * 5 + AXES[:1] * 40
    )


def test_the_ends_of_the_weights_are_shown_with_their_numbers(run):
    feedback, mix = synthesis_plots(run)
    assert "axis 0 0.00, axis 1 0.10, axis 2 0.20, axis 5 0.50, axis 6 0.60, axis 7 0.70" in feedback.about
    assert "axis 0 12 % to 100 %" in mix.about and "axis 7 12 % to 0 %" in mix.about
    assert mix.about.startswith("80 captions were written, the policy is hardest; ")


def test_without_pairs_the_loss_is_shown(run):
    feedback, _ = synthesis_plots(replace(run, metrics=lines(margin=False)))
    assert feedback.about.startswith("Loss, by axis") and "axis 7 1.30" in feedback.about


@pytest.mark.parametrize("changes", [{"axes": []}, {"metrics": []}, {"config": load_config("micro")}])
def test_a_run_without_a_policy_or_without_numbers_has_no_such_plots(run, changes):
    assert synthesis_plots(replace(run, **changes)) == []
