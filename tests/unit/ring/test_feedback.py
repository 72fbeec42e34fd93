"""The feedback board: means by axis, concept and generator that fade with the steps."""

from __future__ import annotations

import numpy as np
import pytest
from small_rings import small_spec

from polygen_stream.ring import FEEDBACK_NAMES, GroupRequest, Kind, Measurement, Member, Ring
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.snapshot import save_snapshot

NONE = float("nan")


def measured(step: int, rows, loss, correct=None, margin=None) -> Measurement:
    n = len(loss)
    return Measurement(
        step,
        np.array(rows, np.int64).reshape(n, 3),
        np.array(loss, float),
        np.array([False] * n if correct is None else correct),
        np.array([NONE] * n if margin is None else margin, float),
    )


def test_a_ring_that_nothing_was_measured_of_has_no_means(new_ring):
    board = new_ring().read_feedback()
    assert (board.step, board.axes, board.concepts, board.generators) == (-1, {}, {}, {})


def test_means_of_one_step(new_ring):
    ring = new_ring()
    ring.name_feedback_rows(["colour", "size"], ["dog"])
    rows = [(0, 0, 0), (0, 0, 1), (1, 0, 1)]
    ring.add_feedback(measured(5, rows, [1.0, 3.0, 5.0], [True, False, True], [0.2, 0.4, NONE]))
    board = ring.read_feedback()
    assert board.step == 5
    colour, size, dog = board.axes["colour"], board.axes["size"], board.concepts["dog"]
    assert (colour.images, colour.loss, colour.earlier_loss, colour.correct) == (2, 2.0, 2.0, 0.5)
    assert (colour.pairs, colour.margin) == (2, pytest.approx(0.3))
    assert (size.images, size.loss, size.pairs, size.margin) == (1, 5.0, 0, 0.0)
    assert (dog.images, dog.loss) == (3, 3.0)
    first, second = (board.generators[name] for name in ring.spec.generators[:2])
    assert (first.loss, second.loss) == (1.0, 4.0)


def test_what_is_a_half_life_old_counts_half(new_ring):
    ring = new_ring(feedback_half_life=10.0)
    ring.name_feedback_rows(["colour"], [])
    ring.add_feedback(measured(0, [(0, -1, 0)], [4.0]))
    ring.add_feedback(measured(10, [(0, -1, 0)], [1.0]))
    colour = ring.read_feedback().axes["colour"]
    assert colour.images == pytest.approx(1.5)
    assert colour.loss == pytest.approx((0.5 * 4 + 1) / 1.5)
    slow = 0.5 ** (1 / 4)
    assert colour.earlier_loss == pytest.approx((slow * 4 + 1) / (slow + 1)), "a time four times as long"


def test_a_step_of_a_slower_rank_counts_in_full(new_ring):
    ring = new_ring()
    ring.name_feedback_rows(["colour"], [])
    ring.add_feedback(measured(8, [(0, -1, 0)], [4.0]))
    ring.add_feedback(measured(7, [(0, -1, 0)], [2.0]))
    board = ring.read_feedback()
    assert (board.step, board.axes["colour"].images, board.axes["colour"].loss) == (8, 2, 3.0)


def test_images_without_a_row_count_for_their_generator_alone(new_ring):
    ring = new_ring()
    ring.name_feedback_rows(["colour"], ["dog"])
    ring.add_feedback(measured(0, [(-1, -1, 0)], [1.0]))
    board = ring.read_feedback()
    assert (board.axes, board.concepts, list(board.generators)) == ({}, {}, [ring.spec.generators[0]])


def test_groups_are_drawn_with_their_rows(new_ring):
    ring = new_ring()
    ring.register("trainer", "t")
    members = [Member(0, 0, 1)]
    ring.open_groups([GroupRequest(0, Kind.PLAIN, "a dog", None, members, axis=3, concept=7)], 0.0)
    ring.open_groups([GroupRequest(1, Kind.PLAIN, "a cat", None, members)], 0.0)
    ring.commit(ring.claim([0], 2), np.zeros((2, *ring.spec.image_shape), np.uint8))
    assert {group.task_id: group.feedback_rows for group in ring.groups_snapshot(9)} == {0: (3, 7), 1: (-1, -1)}


@pytest.mark.parametrize("rows", [{"axis": FEEDBACK_NAMES}, {"concept": -2}])
def test_a_row_that_the_board_does_not_have_is_refused(new_ring, rows):
    ring = new_ring()
    with pytest.raises(ValueError, match=r"row (64|-2) is not in -1 \.\. 63"):
        ring.open_groups([GroupRequest(0, Kind.PLAIN, "a dog", None, [Member(0, 0, 1)], **rows)], 0.0)
    assert ring.stats().groups_opened == 0


def test_a_board_with_every_row_fits_the_undo_journal(new_ring):
    ring = new_ring(slots=2, groups=1, members=2)
    n = FEEDBACK_NAMES
    rows = np.stack([np.arange(n), np.arange(n), np.arange(n) % len(ring.spec.generators)], axis=1)
    ring.add_feedback(measured(3, rows, [1.0] * n, [True] * n, [0.1] * n))
    assert ring.read_feedback().step == 3


def test_a_snapshot_has_the_board(new_ring, tmp_path):
    ring = new_ring()
    ring.name_feedback_rows(["colour"], ["dog"])
    ring.add_feedback(measured(4, [(0, 0, 0)], [2.5], [True], [0.5]))
    save_snapshot(ring, tmp_path / "ring.safetensors", payload=False)
    restored: Ring = restore_snapshot(tmp_path / "ring.safetensors", small_spec(feedback_half_life=5.0))
    try:
        assert restored.read_feedback() == ring.read_feedback()
    finally:
        restored.close()


def test_weights_of_a_policy_stand_beside_the_means(new_ring):
    ring = new_ring()
    ring.name_feedback_rows(["colour", "size"], ["dog"])
    ring.add_feedback(measured(0, [(0, 0, 0), (1, 0, 1)], [1.0, 1.0]))
    assert {row.weight for row in ring.read_feedback().axes.values()} == {1.0}
    ring.set_feedback_weights({"size": 2.5, "unknown": 9.0}, {}, {ring.spec.generators[1]: 0.5})
    board = ring.read_feedback()
    assert {name: row.weight for name, row in board.axes.items()} == {"colour": 1.0, "size": 2.5}
    assert [row.weight for row in board.generators.values()] == [1.0, 0.5]
    ring.set_feedback_weights({}, {}, {})
    assert {row.weight for row in ring.read_feedback().axes.values()} == {1.0}


def test_a_row_with_another_name_begins_anew(new_ring):
    ring = new_ring()
    ring.name_feedback_rows(["colour", "size"], ["dog"])
    ring.add_feedback(measured(0, [(0, 0, 0), (1, 0, 0)], [1.0, 2.0]))
    ring.name_feedback_rows(["colour"], ["cat"])
    board = ring.read_feedback()
    assert (list(board.axes), board.concepts) == (["colour"], {}) and board.axes["colour"].loss == 1.0
    assert ring.feedback_names()[0][:2] == ["colour", ""]
    ring.name_feedback_rows(["colour", "size"], ["cat"])
    assert list(ring.read_feedback().axes) == ["colour"], "what was measured of the earlier one is gone"


def test_a_long_name_is_cut_between_characters(new_ring):
    ring = new_ring()
    ring.name_feedback_rows(["é" * 40, "x" + "é" * 40], [])
    assert ring.feedback_names()[0][:2] == ["é" * 32, "x" + "é" * 31]


def test_what_was_not_seen_for_long_is_forgotten(new_ring):
    ring = new_ring(feedback_half_life=10.0)
    ring.name_feedback_rows(["old", "new"], [])
    ring.add_feedback(measured(0, [(0, -1, 0)] * 64, [1.0] * 64))
    ring.add_feedback(measured(10, [(1, -1, 0)], [1.0]))
    assert ring.read_feedback().axes["old"].images == pytest.approx(32)
    ring.add_feedback(measured(400, [(1, -1, 0)], [1.0]))
    assert list(ring.read_feedback().axes) == ["new"]
