"""What `status` says of a synthesis policy, from the newest metrics that have feedback."""

from __future__ import annotations

import io
import json
from contextlib import closing

import pytest
from rich.console import Console

from polygen_stream.config import RunConfig, load_config
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.run_status import StatusTracker, to_dict
from polygen_stream.launch.watch.status_report import show_status
from polygen_stream.ring import Ring, RingSpec


def feedback(**weights: float) -> dict:
    rows = {name: {"loss": 1.0, "correct": 0.5, "weight": weight, "margin": 0.25} for name, weight in weights.items()}
    return {"axes": rows, "generators": {}}


def line(step: int, **more) -> str:
    return json.dumps({"step": step, "time": step, "loss": 1.0, "p": 0.5, "wait_s": 0.0, "step_s": 1.0, **more}) + "\n"


@pytest.fixture
def shown(tmp_path):
    """shown(lines, config) -> (the status as plain values, what is printed)."""

    def shown(text: str, config: RunConfig) -> tuple[dict, str]:
        (tmp_path / "metrics.jsonl").write_text(text)
        tail, screen = MetricsTail(tmp_path / "metrics.jsonl"), io.StringIO()
        tail.read()
        spec = RingSpec(
            slots=4, image_shape=(4, 4, 3), groups=4, members=1, caption_bytes=16, generators=("a",), seed=0
        )
        with closing(Ring.create(spec)) as ring:
            found = to_dict(config, tmp_path, "running", StatusTracker(tmp_path).take(ring.stats(), tail, []))
        show_status(found, Console(file=screen, width=200))
        return found["synthesis"], screen.getvalue()

    return shown


HARDEST = load_config(None, {"synthesis.policy": "hardest"})


def test_up_to_five_axes_that_weigh_more_than_others_are_named_the_most_wanted_first(shown):
    seen = feedback(a=1.1, b=2.5, c=0.4, d=1.0, e=1.2, f=1.3, g=1.4, h=1.5)
    found, printed = shown(line(0, feedback=feedback(c=9.0)) + line(10, feedback=seen) + line(11), HARDEST)
    assert (found["policy"], list(found["wanted"])) == ("hardest", ["b", "h", "g", "f", "e"])
    assert "hardest; most wanted: b x 2.50 (margin 0.250), h x 1.50" in printed


@pytest.mark.parametrize("text", ["", line(0), line(0, feedback=feedback(a=1.0, b=0.5))])
def test_a_policy_that_wants_nothing_more_is_named_alone(shown, text):
    found, printed = shown(text, HARDEST)
    assert found == {"policy": "hardest", "wanted": {}} and "most wanted" not in printed


def test_weights_of_an_earlier_attempt_are_not_those_of_the_uniform_policy(shown):
    found, _ = shown(line(0, feedback=feedback(a=2.0)), load_config("micro"))
    assert found == {"policy": "uniform", "wanted": {}}


@pytest.mark.parametrize("damaged", [[], {"axes": 3}, {"axes": {"a": {"weight": "2"}}, "generators": {}}, {"axes": {}}])
def test_a_line_whose_feedback_is_damaged_is_left_out(shown, damaged, capfd):
    found, _ = shown(line(0, feedback=feedback(a=2.0)) + line(1, feedback=damaged), HARDEST)
    assert list(found["wanted"]) == ["a"]
