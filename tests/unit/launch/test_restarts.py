"""How often a process is started again, after which pause, and what the loss of a generator does."""

from __future__ import annotations

import pytest

from polygen_stream.config import load_config
from polygen_stream.launch.degraded import without
from polygen_stream.launch.restarts import LONGEST_PAUSE_S, Restarts


def test_pauses_double_until_the_budget_is_spent():
    restarts = Restarts(most=4)
    assert [restarts.pause("captioner", progress=False) for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, None]
    assert restarts.in_a_row("captioner") == 4
    assert restarts.pause("renderer", progress=False) == 0.5, "each process has a budget of its own"


def test_progress_gives_the_budget_back():
    restarts = Restarts(most=2)
    assert [restarts.pause("trainer", progress=False) for _ in range(2)] == [0.5, 1.0]
    assert restarts.pause("trainer", progress=True) == 0.5
    assert [restarts.pause("trainer", progress=False) for _ in range(2)] == [1.0, None]


def test_no_pause_is_longer_than_a_minute_and_no_budget_means_no_restart():
    restarts = Restarts(most=50)
    assert [restarts.pause("captioner", progress=False) for _ in range(50)][-1] == LONGEST_PAUSE_S
    assert Restarts(most=0).pause("captioner", progress=True) is None


@pytest.mark.parametrize(
    ("positives", "down", "expected"),
    [
        ("2", ["micro/sana"], "1.5 of 2 pictures on average, and each of the other 3 generators makes 33.3 %"),
        ("4", ["micro/sana", "micro/sd2"], "2 of 4 pictures on average, and each of the other 2 generators makes 50 %"),
        # of the 6 pairs of generators that a caption may ask for, one is the lost pair
        ("2", ["micro/sana", "micro/sd2"], "; 16.7 % of the captions asked for nothing else and are dropped"),
        ("1", ["micro/sana"], "; 25 % of the captions"),
    ],
)
def test_the_loss_of_generators_in_words(positives, down, expected):
    config = load_config(None, {"generators.positives": positives, "generators.negatives": positives})
    text = without(config, down)
    assert expected in text
    assert text.startswith(f"without {', '.join(sorted(down))}: ")
    assert ("dropped" in text) == (int(positives) <= len(down))
