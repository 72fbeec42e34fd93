"""The selection of captions by config, and the error when a source produces none."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import JournalEntry
from polygen_stream.captions.selection.balance import Balancer, DropReason
from polygen_stream.captions.selection.selector import CaptionSelector
from polygen_stream.config import CaptionsConfig
from polygen_stream.producers.failures import MAX_FAILURES, FailureStreak
from polygen_stream.schedule.ledger import CaptionTask

CONCEPTS = ["dog", "crane", "ball"]
WHY = ("caption: the model refuses",)


def selection(**changes) -> CaptionSelector:
    return CaptionSelector(CaptionsConfig(**changes), CONCEPTS, seed=1)


def stream(count: int) -> list[Caption | Dropped]:
    """Captions about a frequent concept and rare ones, with duplicates and dropped tasks."""
    return [
        Dropped(WHY)
        if i % 11 == 5
        else Caption(
            f"a dog near number n{i % 700} with a {'crane' if i % 400 == 0 else 'ball'}", rejected=WHY * (i % 2)
        )
        for i in range(count)
    ]


def use(chosen: CaptionSelector, written: list[Caption | Dropped], start: int = 0) -> list[Caption | Dropped]:
    return [chosen.select(i, outcome) for i, outcome in enumerate(written[start:], start)]


def test_by_default_every_caption_is_used():
    assert use(selection(), stream(900)) == stream(900)


def test_duplicates_are_dropped_with_their_text_and_earlier_reasons():
    first, same, near = (Caption("a dog", "a cat", "object", WHY), Caption("a dog"), Caption("the dogs"))
    assert use(selection(deduplicate=True), [first, same, near]) == [
        first,
        Dropped((f"caption: {DropReason.EXACT}",), "a dog"),
        Dropped((f"caption: {DropReason.NEAR}",), "the dogs"),
    ]


def test_balancing_decides_like_the_balancer():
    balancer = Balancer(CONCEPTS, 20, 1)
    written = stream(3000)
    for i, used in enumerate(use(selection(deduplicate=True, balance=20.0), written)):
        if isinstance(written[i], Dropped):
            assert used == written[i]
            continue
        verdict = balancer.decide(i, written[i].text)
        assert used == (
            written[i] if verdict is None else Dropped((*written[i].rejected, f"caption: {verdict}"), written[i].text)
        )
    assert {None, DropReason.EXACT, DropReason.FREQUENT} <= balancer.verdicts.keys()


@pytest.mark.parametrize("keys", [{}, {"deduplicate": True}, {"deduplicate": True, "balance": 20.0}])
def test_a_selection_is_restored_from_a_journal(keys):
    written = stream(2000)
    whole = use(selection(**keys), written)
    resumed = selection(**keys)
    tasks = [CaptionTask(i, "dog", "colour", 0, (0,), (0,)) for i in range(1300)]
    resumed.replay(JournalEntry(task, False, outcome) for task, outcome in zip(tasks, whole, strict=False))
    assert use(resumed, written, 1300) == whole[1300:]


def test_a_source_without_captions_ends_the_run_with_the_reasons():
    failures = FailureStreak()
    failures.record(Dropped(("caption: empty",)))
    failures.record(Caption("a dog"))  # a caption resets the count
    for _ in range(MAX_FAILURES - 1):
        failures.record(Dropped(WHY * 5))
    with pytest.raises(
        UserError, match=r"512 tasks in a row .*the model refuses \(2,560 times\).*captions\.writer"
    ) as caught:
        failures.record(Dropped(WHY * 5))
    assert "empty" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_caption_dropped_by_balancing_is_not_a_failure():
    failures = FailureStreak()
    for _ in range(3 * MAX_FAILURES):
        failures.record(Dropped((f"caption: {DropReason.FREQUENT}",), "a dog"))
    with pytest.raises(UserError, match="came before"):
        for _ in range(MAX_FAILURES):
            failures.record(Dropped((f"caption: {DropReason.EXACT}",), "a dog"))
