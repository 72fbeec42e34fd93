from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polygen_stream.base.errors import UserError
from polygen_stream.schedule.ledger import CaptionTask, Ledger

CONCEPTS = ["boat", "cat", "house", "key", "tree"]
AXES = ["colour", "count", "position"]

GOLDEN_0 = CaptionTask(
    task_id=0,
    concept="key",
    axis="position",
    caption_seed=425344776704104293,
    generators=(0, 1, 2, 3),
    image_seeds=(4142306371753848037, 4196473316810244923, 8046067275455854310, 43881069572125022),
)
GOLDEN_12345 = CaptionTask(
    task_id=12345,
    concept="tree",
    axis="colour",
    caption_seed=4937579522585846388,
    generators=(0, 1, 2, 3, 2, 0),
    image_seeds=(
        2388592837316532912,
        8607901740638170852,
        983757060951313320,
        4120622653956166423,
        159987275246521486,
        1612138178369678609,
    ),
)


def ledger(seed: int = 0, generators: int = 4, positives: int = 4) -> Ledger:
    return Ledger(seed, CONCEPTS, AXES, num_generators=generators, positives=positives)


def test_tasks_never_change():
    # Recorded runs can be rendered again only while these stay what they are.
    assert ledger().task(0) == GOLDEN_0
    assert ledger(seed=3, positives=6).task(12345) == GOLDEN_12345


def test_a_task_depends_on_nothing_but_its_arguments():
    forwards, backwards = ledger(), ledger()
    first = [forwards.task(i) for i in range(50)]
    assert [backwards.task(i) for i in reversed(range(50))] == first[::-1]


def test_a_task_is_the_same_in_another_process():
    # String hashing differs between processes; the ledger must not.
    code = (
        "import pickle, sys; from polygen_stream.schedule.ledger import Ledger; "
        f"sys.stdout.buffer.write(pickle.dumps(Ledger(9, {CONCEPTS}, {AXES}, 4, 5).task(77)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert pickle.loads(done.stdout) == Ledger(9, CONCEPTS, AXES, 4, 5).task(77)


@settings(deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(1, 6), st.integers(1, 13))
def test_generators_share_the_images_of_a_task_evenly(seed, task_id, generators, positives):
    task = ledger(seed, generators, positives).task(task_id)
    assert len(task.generators) == len(task.image_seeds) == positives
    counts = [Counter(task.generators)[g] for g in range(generators)]
    assert sum(counts) == positives and max(counts) - min(counts) <= 1
    assert len(set(task.image_seeds)) == positives and all(0 <= seed < 2**63 for seed in task.image_seeds)


def test_the_remainder_goes_to_every_generator_equally_often():
    # 2 images over 4 generators: over many tasks each generator has half a share of them.
    tasks, counts = 4000, Counter()
    for task_id in range(tasks):
        counts.update(ledger(positives=2).task(task_id).generators)
    assert all(abs(counts[g] - tasks / 2) < 5 * (tasks / 4) ** 0.5 for g in range(4)), counts


def test_concepts_and_axes_are_drawn_uniformly_and_independently():
    tasks = 15000
    pairs = Counter((task.concept, task.axis) for task in map(ledger().task, range(tasks)))
    expected = tasks / (len(CONCEPTS) * len(AXES))
    assert len(pairs) == len(CONCEPTS) * len(AXES)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in pairs.values()), pairs


def test_run_seeds_give_unrelated_tasks():
    assert ledger(seed=1).task(0).image_seeds != ledger(seed=2).task(0).image_seeds


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(UserError, match="at least one concept and one axis, got 0 and 3"):
        Ledger(0, [], AXES, 4, 4)
    with pytest.raises(UserError, match="got 4 and 0"):
        Ledger(0, CONCEPTS, AXES, 4, 0)
