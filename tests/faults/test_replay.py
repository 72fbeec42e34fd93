"""A replay trains on the same groups in the same order as the run it replays, and needs no language model for it."""

from __future__ import annotations

import json

import pytest
from launched_runs import Launched
from run_results import RUN, assert_same, result

# A ring that has to evict: 40 of 100 captions fit. In throughput mode batches depend on everybody's pace.
FLOWING = ("ring.mode", "throughput", "ring.window", "0", "ring.slots", "120", "ring.min_fill", "12")
# Batches of texts that waited, and one of two images of each text in a draw.
AUTHOR = (*FLOWING, "ring.slots", "400", "method", "author", "train.images_per_text", "1")

# Captions that come late are drawn out of turn, and feedback decides which ones are written.
CATCHING_UP = (*FLOWING, "ring.slots", "600", "ring.catch_up", "4", "synthesis.policy", "hardest")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "settings",
    [FLOWING, (), pytest.param(AUTHOR, marks=pytest.mark.slow), CATCHING_UP],
    ids=["throughput", "deterministic", "author", "closed loop"],
)
def test_a_replay_gives_the_trainer_the_same_batches_in_the_same_order(tmp_path, settings):
    started = []

    def start(name: str, *words: str) -> Launched:
        (tmp_path / name).mkdir()
        started.append(Launched(tmp_path / name, RUN, words))
        return started[-1]

    try:
        run = start("first", *settings)
        assert run.wait(300) == 0, run.stderr
        again = start("again", "replay", str(run.run_dir))
        assert again.wait(300) == 0, again.stderr
        again.assert_nothing_left()
    finally:
        for launched in started:
            launched.close()
    first, second = result(run.run_dir), result(again.run_dir)
    for step in (*first["draws"], *second["draws"]):
        del step["generations"]  # how often a row of the table was used before
    journal = {name: run_result.pop("journal") for name, run_result in (("first", first), ("second", second))}
    # Weights and losses too: texts and pictures were the same, byte for byte.
    assert_same(second, first)
    drawn = {task for step in first["draws"] for kind in ("plain", "negative", "pair") for task in step.get(kind, ())}
    if settings == AUTHOR:
        assert any(step.get("negative") and not step["pair"] for step in first["draws"][20:]), "texts that waited"
    if settings == CATCHING_UP:
        assert '"choice": {"step": ' in journal["first"], "a policy chose"
    lines = [json.loads(line) for line in journal["first"].splitlines()]
    kept = [line for line in lines if "task" not in line or line["task"]["task_id"] in drawn]
    assert [json.loads(line) for line in journal["second"].splitlines()] == kept
    assert again.summary["captions"] == len(drawn)
