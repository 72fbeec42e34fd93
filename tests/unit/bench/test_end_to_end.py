"""The arithmetic of the comparison, and the offline side of it: what is rendered, stored and drawn."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from polygen_stream.bench.end_to_end.benchmark import compare
from polygen_stream.bench.end_to_end.offline import render_all, shard_batches, train_from_shards
from polygen_stream.bench.latency_stubs.roles import Latency, painted
from polygen_stream.config import curriculum_of, load_config
from polygen_stream.export.reading import read_tasks
from polygen_stream.export.shards import ShardSample

CONFIG = load_config(
    None,
    {
        "generators.recipes": "micro/sd15,micro/sana",
        "train.batch": "8",
        "train.steps": "6",
        "train.warmup": "0",
        "ring.min_fill": "8",
        "curriculum.start": "0.25",
        "curriculum.schedule": "constant",
        "curriculum.end": "0.25",
    },
)


def samples(tasks: int) -> list[ShardSample]:
    """Two pictures of each caption; every second task has a hard negative with two more."""
    colours = ("red", "green", "blue", "white", "black", "pink")
    nouns = ("cup", "tree", "house")
    found = []
    for task in range(tasks):
        noun, colour = nouns[task % 3], colours[task // 3 % 6]
        other = colours[(task // 3 + 1) % 6]
        found += [
            ShardSample(task, member, False, f"a {colour} {noun}", member, 10 * task + member) for member in (0, 1)
        ]
        if task % 2:
            found += [ShardSample(task, 2 + k, True, f"a {other} {noun}", k, 10 * task + k) for k in (0, 1)]
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline") / "shards"
    seconds = render_all(CONFIG, samples(18), Latency({"micro/sd15": 0.05, "micro/sana": 0.01}), folder)
    # 18 positives and 9 negatives of the slower generator, one after the other
    assert seconds >= 27 * 0.05
    return folder


def test_shards_hold_the_painters_picture_of_every_sample(shards):
    tasks = list(read_tasks(shards, CONFIG.generators.recipes))
    assert [len(task) for task in tasks] == [2, 4] * 9
    for sample in (sample for task in tasks for sample in task):
        assert (sample.image(32) == painted(sample.text, sample.seed, 32)).all()


def test_batches_have_the_curriculums_mix_and_pass_over_everything(shards):
    curriculum, seen = curriculum_of(CONFIG), Counter()
    for step, (mix, images, texts, counts, tasks, pair_tasks, generators) in enumerate(shard_batches(CONFIG, shards)):
        expected = curriculum.draw(step)
        assert (mix.plain, mix.pair) == (expected.plain, expected.pair) == (4, 2)
        assert len(texts) == len(counts) == 8 and len(set(texts)) == 8 and counts == [2] * 8
        assert tasks[4:] == pair_tasks and all(task % 2 for task in pair_tasks)
        assert len(images) == len(generators) == 16
        seen.update(tasks)
    assert set(seen) == set(range(18))  # 36 draws


@pytest.mark.extended
def test_training_from_shards_keeps_the_weights_that_are_asked_for(shards):
    ended, weights = train_from_shards(CONFIG, shards, every=3)
    assert len(ended) == 6 and ended == sorted(ended)
    assert list(weights) == [0, 3, 6]
    scales = [state["logit_scale"].item() for state in weights.values()]
    assert len(set(scales)) == 3
    assert all(torch.isfinite(tensor).all() for tensor in weights[6].values())


def test_comparison_of_two_known_curves():
    streaming = {"first_step_s": 5.0, "seconds": 100.0, "curve": [[0.0, 0.0], [100.0, 0.8]]}
    offline = {
        "first_step_s": 80.0,
        "seconds": 100.0,
        "accuracy": 0.6,
        "curve": [[0.0, 0.0], [80.0, 0.0], [100.0, 0.6]],
    }
    found = compare(streaming, offline)
    assert found["first_step_sooner"] == 16 and found["seconds_ratio"] == 1
    assert found["area_ratio"] == pytest.approx(40 / 6, rel=1e-3)
    assert found["largest_lead_of_offline"] == 0
    assert found["offline_accuracy_reached_ratio"] == pytest.approx(0.75, abs=1e-3)


def test_a_lead_of_the_offline_run_is_said():
    streaming = {"first_step_s": 5.0, "seconds": 120.0, "curve": [[0.0, 0.0], [120.0, 0.6]]}
    offline = {
        "first_step_s": 50.0,
        "seconds": 100.0,
        "accuracy": 0.7,
        "curve": [[0.0, 0.0], [50.0, 0.0], [100.0, 0.7]],
    }
    found = compare(streaming, offline)
    assert found["largest_lead_of_offline"] == pytest.approx(0.2, abs=1e-3)  # at 100 s: 0.7 against 0.5
    assert found["offline_accuracy_reached_ratio"] == float("inf")
