"""The feedback board: what the trainer knows of the captions it has just seen, by axis, by concept, by generator.

Every group belongs to one axis and one concept, rows that the captioner names; every image to one generator. Training
steps add what they measured of their images to those rows, and a policy (polygen_stream/synthesis) reads the means when
it decides which caption is written next. Counts and sums halve every `RingSpec.feedback_half_life` steps, those of the
slow mean every four times as many. The board is as safe from dying processes as the rest of the ring, and a snapshot
has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import FEEDBACK_NAMES, NAME_BYTES, FeedbackCell, Total, get_text, put_text
from polygen_stream.ring.readable import ReadableRing
from polygen_stream.ring.undo_journal import Operation

SLOW = 4.0  # half-lives of the other mean
FEWEST = 1e-3  # images that a mean is over
NO_ROW = -1  # of a group without an axis or a concept


class Factor(IntEnum):
    """What rows of the board tell apart."""

    AXIS = 0
    CONCEPT = 1
    GENERATOR = 2


@dataclass(frozen=True)
class CellMeans:
    """The means of one row.

    Attributes:
        images: number that the means are over, each counted by its age at the latest step of the board.
        loss: cross entropy of an image against the texts of its batch, in nats.
        earlier_loss: the same over a time four times as long.
        correct: share of images that are nearest to their own text.
        pairs: as `images`, of those whose batch had their caption's other text.
        margin: cosine similarity of an image with its text minus that with the other text; 0 if `pairs` is 0.
        weight: how much the policy last wanted it; 1 if it said nothing.
    """

    images: float
    loss: float
    earlier_loss: float
    correct: float
    pairs: float
    margin: float
    weight: float = 1.0


@dataclass(frozen=True)
class Feedback:
    """The board at one instant. Rows without an image are missing, as are those whose images are all long ago.

    Attributes:
        step: the latest training step that added to it; -1 before the first.
        axes: {name: means}.
        concepts: {name: means}; of a bank with more than FEEDBACK_NAMES concepts, the names of groups of concepts.
        generators: {name: means}.
    """

    step: int
    axes: dict[str, CellMeans]
    concepts: dict[str, CellMeans]
    generators: dict[str, CellMeans]


@dataclass(frozen=True)
class Measurement:
    """What a training step measured of its n images.

    Attributes:
        step: its number.
        rows: int64 [n, 3], row of each image for each Factor, NO_ROW for none.
        loss: float64 [n], see CellMeans.
        correct: bool [n].
        margin: float64 [n], NaN where the batch has no other text of the caption.
    """

    step: int
    rows: np.ndarray
    loss: np.ndarray
    correct: np.ndarray
    margin: np.ndarray


def row_name(name: str) -> str:
    """Return a name as a row can have it: the first NAME_BYTES of its UTF-8, without half a character at the end."""
    return name.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")


def name_rows(control: Control, axes: Sequence[str], concepts: Sequence[str]) -> None:
    """Write the names of the rows that groups are opened with; those beyond FEEDBACK_NAMES have no row.

    A row that had another name begins anew.
    """
    wanted = [*_padded(axes), *_padded(concepts)]
    changed = np.array([row for row, (new, old) in enumerate(zip(wanted, _named(control), strict=True)) if new != old])
    if not changed.size:
        return
    with control.transition(Operation.FEEDBACK) as journal:
        cells = changed[:, None] * len(FeedbackCell) + np.arange(len(FeedbackCell))
        journal.set("feedback", cells.reshape(-1), 0)
    for row in changed.tolist():
        put_text(control.columns.feedback_name[row], wanted[row])


def _padded(labels: Sequence[str]) -> list[str]:
    """Return the labels of FEEDBACK_NAMES rows, "" where there is none."""
    own = [row_name(label) for label in labels[:FEEDBACK_NAMES]]
    return own + [""] * (FEEDBACK_NAMES - len(own))


def _named(ring: ReadableRing) -> list[str]:
    return [get_text(row) if row[0] else "" for row in ring.columns.feedback_name]


def names(ring: ReadableRing) -> tuple[list[str], list[str]]:
    """Return the names of the rows of axes and of concepts, "" where there is none."""
    labels = _named(ring)
    return labels[:FEEDBACK_NAMES], labels[FEEDBACK_NAMES:]


def set_weights(
    control: Control, axes: Mapping[str, float], concepts: Mapping[str, float], generators: Mapping[str, float]
) -> None:
    """Note how much a policy wants the rows of these names, and that it says nothing of the others."""
    weights = np.zeros(len(Factor) * FEEDBACK_NAMES)
    for factor, (labels, given) in enumerate(zip(_labels(control), (axes, concepts, generators), strict=True)):
        for number, name in enumerate(labels):
            weights[factor * FEEDBACK_NAMES + number] = given.get(name, 0.0)
    control.columns.feedback_weight[:] = weights


def add(control: Control, measured: Measurement) -> None:
    """Add what a step measured, in one short transition."""
    spec = control.spec
    factors = np.arange(len(Factor)) * FEEDBACK_NAMES
    rows = np.where(measured.rows == NO_ROW, NO_ROW, measured.rows + factors)  # [n, 3]
    size = len(Factor) * FEEDBACK_NAMES
    counted = rows != NO_ROW
    paired = counted & ~np.isnan(measured.margin)[:, None]

    def total(values: np.ndarray, where: np.ndarray = counted) -> np.ndarray:
        weights = np.broadcast_to(values[:, None], rows.shape)[where]
        return np.bincount(rows[where], weights.astype(np.float64), minlength=size)

    one = np.ones(len(rows))
    images, loss, correct = total(one), total(measured.loss), total(measured.correct)
    pairs, margin = total(one, paired), total(measured.margin, paired)
    touched = np.flatnonzero(images)
    if not touched.size:
        return
    added = {
        FeedbackCell.IMAGES: images, FeedbackCell.LOSS: loss, FeedbackCell.CORRECT: correct, FeedbackCell.PAIRS: pairs,
        FeedbackCell.MARGIN: margin, FeedbackCell.SLOW_IMAGES: images, FeedbackCell.SLOW_LOSS: loss,
    }  # fmt: skip
    with control.transition(Operation.FEEDBACK) as journal:
        cells = control.columns.feedback.reshape(size, len(FeedbackCell))
        before = cells[touched, FeedbackCell.STEP]
        # Steps of several ranks may come in any order: none is older than the row.
        age = np.maximum(0, measured.step - before)
        fast = 0.5 ** (age / spec.feedback_half_life)
        slow = 0.5 ** (age / (SLOW * spec.feedback_half_life))
        for cell, values in added.items():
            decay = slow if cell in (FeedbackCell.SLOW_IMAGES, FeedbackCell.SLOW_LOSS) else fast
            kept = cells[touched, cell].view("f8") * decay + values[touched]
            journal.set("feedback", touched * len(FeedbackCell) + int(cell), kept.view("i8"))
        journal.set("feedback", touched * len(FeedbackCell) + int(FeedbackCell.STEP), np.maximum(before, measured.step))
        latest = max(control.total(Total.FEEDBACK_STEPS), measured.step + 1)
        journal.set("total", int(Total.FEEDBACK_STEPS), latest)


def read(ring: ReadableRing) -> Feedback:
    """Return the board of a ring, or of a copy of its columns."""
    with ring.reading():
        c = ring.columns
        cells, weights = c.feedback.reshape(-1, len(FeedbackCell)).copy(), c.feedback_weight.copy()
        latest = ring.total(Total.FEEDBACK_STEPS) - 1
    cells = _aged(cells, latest, ring.spec.feedback_half_life)
    named = zip(Factor, _labels(ring), strict=True)
    axes, concepts, generators = (dict(_means(cells, weights, factor, labels)) for factor, labels in named)
    return Feedback(latest, axes, concepts, generators)


def _aged(cells: np.ndarray, latest: int, half_life: float) -> np.ndarray:
    """Return the cells as float64 [rows, cells], with counts and sums as of the latest step."""
    values = cells.view("f8").copy()
    age = np.maximum(0, latest - cells[:, FeedbackCell.STEP])[:, None]
    slow = [FeedbackCell.SLOW_IMAGES, FeedbackCell.SLOW_LOSS]
    fast = [cell for cell in FeedbackCell if cell not in (FeedbackCell.STEP, *slow)]
    values[:, fast] *= 0.5 ** (age / half_life)
    values[:, slow] *= 0.5 ** (age / (SLOW * half_life))
    return values


def _labels(ring: ReadableRing) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the rows of each Factor."""
    return (*names(ring), list(ring.spec.generators))


def _means(
    cells: np.ndarray, weights: np.ndarray, factor: Factor, labels: Sequence[str]
) -> Iterator[tuple[str, CellMeans]]:
    first = factor * FEEDBACK_NAMES
    for number in np.flatnonzero(cells[first : first + len(labels), FeedbackCell.IMAGES] >= FEWEST).tolist():
        _, images, loss, correct, pairs, margin, slow_images, slow_loss = cells[first + number].tolist()
        yield (
            labels[number],
            CellMeans(
                images,
                loss / images,
                slow_loss / slow_images,
                correct / images,
                pairs,
                margin / pairs if pairs >= FEWEST else 0.0,
                float(weights[first + number]) or 1.0,
            ),
        )
