"""The shipped policies on streams whose answer is known."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.config import SynthesisConfig, load_config
from polygen_stream.ring import CellMeans, Feedback
from polygen_stream.schedule.choice import Choice
from polygen_stream.schedule.ledger import Ledger
from polygen_stream.synthesis.choice import TaskChooser, choose
from polygen_stream.synthesis.policy import Weights, ask, load_policy
from polygen_stream.synthesis.rows import FeedbackRows

AXES = ("learned", "hopeless", "learning")
CONCEPTS = ("dog", "cat")


def cell(loss: float, earlier: float, margin: float, images: float = 500.0, pairs: float = 100.0) -> CellMeans:
    return CellMeans(images, loss, earlier, 0.5, pairs, margin)


def feedback(**axes: CellMeans) -> Feedback:
    return Feedback(40, axes, {}, {})


# One axis is learned, one shows nothing that could be learned, one is being learned.
STREAM = feedback(
    learned=cell(0.1, 0.1, margin=0.6), hopeless=cell(3.0, 3.0, margin=0.0), learning=cell(1.0, 2.0, margin=0.3)
)


def weights(policy: str, seen: Feedback, **values) -> Weights:
    return load_policy(SynthesisConfig(policy=policy, **values)).weights(seen)


def test_uniform_wants_nothing_more():
    assert weights("uniform", STREAM) == Weights()


def test_hardest_wants_what_has_the_smallest_margin_also_if_it_cannot_be_learned():
    axes = weights("hardest", STREAM).axes
    assert axes["hopeless"] > axes["learning"] > axes["learned"]


def test_hardest_goes_by_the_loss_where_no_pair_was_drawn():
    unpaired = feedback(easy=cell(0.5, 0.5, margin=0.0, pairs=0), hard=cell(2.0, 2.0, margin=0.0, pairs=0))
    axes = weights("hardest", unpaired).axes
    assert axes["hard"] > 1 > axes["easy"]


def test_hardest_knows_nothing_of_an_axis_without_pairs_among_others_that_have_them():
    seen = feedback(new=cell(9.0, 9.0, 0.0, pairs=0), easy=cell(1.0, 1.0, 0.6), hard=cell(1.0, 1.0, 0.1))
    assert "new" not in weights("hardest", seen).axes


def test_progress_wants_what_is_being_learned_and_neither_the_learned_nor_the_hopeless():
    axes = weights("progress", STREAM).axes
    assert axes["learning"] > 1 > axes["hopeless"] == axes["learned"]


@pytest.mark.parametrize("policy", ["hardest", "progress"])
def test_weights_depend_on_no_scale(policy):
    scaled = feedback(
        **{name: cell(1000 * row.loss, 1000 * row.earlier_loss, 1000 * row.margin) for name, row in STREAM.axes.items()}
    )
    assert weights(policy, scaled).axes == pytest.approx(weights(policy, STREAM).axes)


@pytest.mark.parametrize("policy", ["hardest", "progress"])
def test_one_outlier_among_many_does_not_take_everything(policy):
    rows = {f"axis {i}": cell(1.0, 1.0, 0.5) for i in range(40)} | {"far": cell(1.0, 1e6, -1e6)}
    assert max(weights(policy, feedback(**rows), sharpness=0.7).axes.values()) == pytest.approx(math.exp(1.4))


@pytest.mark.parametrize("policy", ["hardest", "progress"])
@pytest.mark.parametrize(
    "seen",
    [
        feedback(),
        feedback(only=cell(2.0, 3.0, 0.1)),
        feedback(one=cell(2.0, 3.0, 0.1), other=cell(2.0, 3.0, 0.1)),
        feedback(few=cell(9.0, 9.9, -1.0, images=3, pairs=3), other=cell(2.0, 3.0, 0.1)),
    ],
    ids=["nothing", "one row", "equal rows", "too few images"],
)
def test_without_rows_to_compare_there_are_no_weights(policy, seen):
    assert weights(policy, seen) == Weights()


def test_factors_are_weighed_as_the_config_says():
    row = {"a": cell(1.0, 1.0, 0.6), "b": cell(1.0, 1.0, 0.1)}
    seen = Feedback(9, row, row, row)
    for by in (("axis",), ("concept", "generator")):
        found = weights("hardest", seen, by=by)
        given = {"axis": found.axes, "concept": found.concepts, "generator": found.generators}
        assert {name for name, of in given.items() if of} == set(by)


@pytest.mark.parametrize("policy", ["hardest", "progress"])
def test_an_axis_whose_images_seldom_show_the_edit_weighs_as_much_less(policy):
    plain = weights(policy, STREAM).axes
    known = weights(policy, STREAM, yields={"hopeless": 0.25, "unseen": 0.5, "never": 0.0}).axes
    assert known == plain | {"hopeless": plain["hopeless"] / 4, "unseen": 0.5, "never": 0.01}


# ---- the choice


def chooser(policy: str, **values: str) -> TaskChooser:
    config = load_config("micro", {"synthesis.policy": policy, **{f"synthesis.{k}": v for k, v in values.items()}})
    ledger = Ledger(0, CONCEPTS, AXES, len(config.generators.recipes), 2)
    return TaskChooser(config, ledger, FeedbackRows.of_source(AXES, CONCEPTS))


def taken(one: TaskChooser, count: int) -> list:
    tasks, following = [], 0
    for _ in range(count):
        task, choice, following = one.next(following)
        tasks.append((task, choice))
    return tasks


def test_the_uniform_policy_takes_the_tasks_of_the_ledger_one_by_one():
    one = chooser("uniform")
    one.update(STREAM)
    assert [(task.task_id, choice) for task, choice in taken(one, 50)] == [(i, None) for i in range(50)]


def test_a_policy_takes_them_one_by_one_until_there_is_feedback():
    one = chooser("hardest")
    one.update(feedback())
    assert [task.task_id for task, _ in taken(one, 50)] == list(range(50))


def test_tasks_are_those_of_the_ledger_and_their_ids_rise():
    one = chooser("hardest")
    one.update(STREAM)
    tasks = [task for task, _ in taken(one, 200)]
    ids = [task.task_id for task in tasks]
    assert ids == sorted(set(ids)) and [number // 32 for number in ids] == list(range(200)), "one of every 32"
    ledger = Ledger(0, CONCEPTS, AXES, 4, 2)
    assert tasks == [ledger.task(number) for number in ids]


def test_what_weighs_twice_as_much_is_taken_twice_as_often_beyond_the_uniform_share():
    counts = Counter(choose([1.0, 2.0, 1.0], 0.2, 0, "choice", i) for i in range(20_000))
    expected = {0: 0.2 + 0.8 / 4, 1: 0.8 / 2, 2: 0.8 / 4}
    assert {i: n / 20_000 for i, n in counts.items()} == pytest.approx(expected, abs=0.015)


def test_every_axis_gets_the_uniform_share_under_any_policy():
    one = chooser("hardest", sharpness="4.0", uniform_share="0.5", candidates="64")
    one.update(STREAM)
    counts = Counter(task.axis for task, _ in taken(one, 3000))
    assert counts["learned"] / 3000 == pytest.approx(0.5 / 3, abs=0.03), "half of the captions are taken as they come"


def test_a_choice_says_what_it_was_made_from():
    one = chooser("hardest", candidates="8")
    one.update(STREAM)
    for task, choice in taken(one, 100):
        assert isinstance(choice, Choice) and (choice.step, choice.candidates) == (40, 8)
        assert choice.weight > 1 if task.axis == "hopeless" else True


def test_candidates_of_a_node_are_its_own_tasks():
    config = load_config("micro", {"synthesis.policy": "hardest"})
    launch = config.launch.model_copy(update={"nodes": 3, "node": 1})
    ledger = Ledger(0, CONCEPTS, AXES, len(config.generators.recipes), 2)
    rows = FeedbackRows.of_source(AXES, CONCEPTS)
    one = TaskChooser(config.model_copy(update={"launch": launch}), ledger, rows)
    one.update(STREAM)
    assert {one.next(first)[0].task_id % 3 for first in range(1, 300, 3)} == {1}


class Fixed:
    """Wants what it is given."""

    def __init__(self, given) -> None:
        self.given = given

    def weights(self, feedback):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize("weight", [1.0, 2.0, 4.0])
def test_a_rare_axis_that_weighs_more_is_taken_more_often_in_proportion(weight):
    """One of 20 axes; beside it there is nothing that a policy knows."""
    axes = [f"axis {i}" for i in range(20)]
    values = {"policy": "own_policies:RareAxis", "sharpness": str(weight), "uniform_share": "0.0"}
    config = load_config("micro", {f"synthesis.{name}": value for name, value in values.items()})
    one = TaskChooser(
        config, Ledger(0, CONCEPTS, axes, len(config.generators.recipes), 2), FeedbackRows.of_source(axes, CONCEPTS)
    )
    one.update(STREAM)
    share = sum(task.axis == "axis 7" for task, _ in taken(one, 3000)) / 3000
    assert share == pytest.approx(weight / (19 + weight), rel=0.15)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *((Weights({"colour": weight}), "gave 'colour' of axes the weight") for weight in (0.0, -1.0, 1e7, "2", True)),
        *(
            (Weights({"colour": weight}), "gave 'colour' of axes the weight")
            for weight in (math.nan, math.inf, 10**400)
        ),
        (Weights({1: 2.0}), "gave 1 of axes the weight 2.0: names are strings"),
        (Weights([("a", 1)]), "which is no Weights of three mappings"),
        (None, "weights returned None, which is no Weights"),
        ({"colour": 2.0}, "which is no Weights"),
        (KeyError("colour"), r"weights fails: KeyError: 'colour' \(.*test_policies\.py, line \d+\)"),
    ],
    ids=str,
)
def test_what_is_no_weights_is_one_line_that_names_the_policy(given, said):
    with pytest.raises(UserError, match=rf"synthesis\.policy = 'mine:Own'.*{said}"):
        ask(Fixed(given), STREAM, SynthesisConfig(policy="mine:Own"))


def test_numbers_of_any_kind_are_weights():
    found = ask(Fixed(Weights({"a": np.float32(0.5), "b": 3})), STREAM, SynthesisConfig())
    assert found.axes == {"a": 0.5, "b": 3.0} and all(type(weight) is float for weight in found.axes.values())


# ---- rows of the feedback board


def test_each_axis_and_concept_has_a_row_of_its_own():
    rows = FeedbackRows.of_source(("a", "b", "a"), CONCEPTS)
    assert rows.of("b", "cat") == (1, 1) and rows.of("other", "bird") == (-1, -1)


def test_names_that_the_board_has_no_room_for_are_cut_and_found_again():
    long = ["é" * 40 + "a", "é" * 31 + "x", "", "short"]
    rows = FeedbackRows.of_source(long, long)
    assert [rows.of(name, name) for name in long] == [(0, 0), (1, 1), (-1, -1), (2, 2)]
    assert all(len(name.encode()) <= 64 for name in rows.axes)


def test_many_concepts_share_the_rows_evenly():
    concepts = [f"concept {i}" for i in range(6400)]
    rows = FeedbackRows.of_source(("a",), concepts)
    again = FeedbackRows.of_names(list(rows.axes), list(rows.concepts))
    found = Counter(rows.of("a", concept)[1] for concept in concepts)
    assert set(found) == set(range(64)) and max(found.values()) < 150
    assert all(again.of("a", concept) == rows.of("a", concept) for concept in concepts[:50])


# ---- a policy of the user's own


def test_a_policy_of_the_users_own_is_called_with_the_config(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from polygen_stream.synthesis.policy import Weights\n"
        "class Rainy:\n"
        "    def __init__(self, config):\n"
        "        self.share = config.uniform_share\n"
        "    def weights(self, feedback):\n"
        "        return Weights(axes={'rain': 1 + self.share})\n"
        "def nothing(config):\n"
        "    return 3\n"
        "def failing(config):\n"
        "    return config.colour\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert weights("mine:Rainy", STREAM, uniform_share=0.5).axes == {"rain": 1.5}
    with pytest.raises(
        UserError, match=r"synthesis\.policy = 'mine:nothing' returned int, which has no method weights"
    ):
        load_policy(SynthesisConfig(policy="mine:nothing"))
    with pytest.raises(
        UserError, match=r"'mine:failing': calling it fails: AttributeError: .*colour.*mine\.py, line 10"
    ):
        load_policy(SynthesisConfig(policy="mine:failing"))
