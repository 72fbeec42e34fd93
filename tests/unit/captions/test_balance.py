"""Balancing: substring matching against brute force, the acceptance rule, reproducible decisions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from polygen_stream.base import seeding
from polygen_stream.base.errors import UserError
from polygen_stream.bench.captions.balance import bench_balance, made_up_bank, written_captions
from polygen_stream.bench.captions.balance_view import markdown, plot_flattening
from polygen_stream.captions.selection.balance import Balancer, DropReason, keep_probability
from polygen_stream.captions.selection.duplicates import DuplicateFilter, DuplicateKind
from polygen_stream.captions.selection.matching import SubstringMatcher


def brute_force(entries: list[str], text: str) -> list[int]:
    """The matching rule by its definition: pad, put spaces around punctuation, search for " entry "."""
    padded = f" {text} "
    for mark in [",", ".", ";", ":", "?", "!", "`"]:
        padded = padded.replace(mark, f" {mark} ")
    for blank in ["\t", "\n", "\r"]:
        padded = padded.replace(blank, " ")
    return [index for index, entry in enumerate(entries) if f" {entry} " in padded]


def test_matching_equals_brute_force():
    words = [
        "dog",
        "hot dog",
        "hot",
        "dogs",
        "Dog",
        "a",
        "a dog",
        "a hot dog",
        ",",
        "dog , a",
        "U.S.",
        "été",
        "犬",
        "10",
    ]
    bank = words + made_up_bank(400)
    matcher = SubstringMatcher(bank)
    rng = seeding.rng("matching test")
    glue = [" ", " ", " ", ", ", ".", "!", "\t", "\n", "; ", "`", "-", "'s "]
    matched = 0
    for _ in range(1500):
        picked = [bank[i] for i in rng.integers(len(bank), size=6)]
        text = "".join(word + glue[int(rng.integers(len(glue)))] for word in picked)
        found = matcher.match(text)
        assert found == brute_force(bank, text), text
        matched += len(found)
    assert matched > 3000


def test_matches_overlap_and_nest_and_respect_case_and_word_borders():
    matcher = SubstringMatcher(["hot dog", "dog", "hot", "dog stand", "Dog", "do"])
    assert matcher.match("hot dog stand") == [0, 1, 2, 3]
    assert matcher.match("Hot,Dog!") == [4]
    assert matcher.match("hotdogs do-it") == []


@pytest.mark.parametrize(("entries", "part"), [([], "no entries"), (["dog", ""], "an empty entry")])
def test_a_bank_that_matches_nothing_or_everything_is_refused(entries, part):
    with pytest.raises(UserError, match=part):
        SubstringMatcher(entries)


def test_the_probability_is_that_of_one_draw_per_entry_with_at_least_one_hit():
    counts, t = [40, 100, 25], 10
    rng = np.random.default_rng(0)
    hits = (rng.random((200_000, 3)) < t / np.array(counts)).any(axis=1)
    assert keep_probability(counts, t) == pytest.approx(hits.mean(), abs=4 * math.sqrt(0.25 / len(hits)))
    assert keep_probability([40, 10], t) == 1.0
    assert keep_probability([], t) == 0.0


def stream(count: int) -> list[str]:
    """Captions about one frequent concept and a few rare ones, all different."""
    return [f"a dog near the number n{i} with a {'crane' if i % 400 == 0 else 'ball'}" for i in range(count)]


def test_frequent_concepts_are_subsampled_and_rare_ones_kept():
    balancer = Balancer(["dog", "crane", "ball"], threshold=20, seed=1)
    verdicts = [balancer.decide(i, text) for i, text in enumerate(stream(8000))]
    assert balancer.seen == [8000, 20, 7980]
    assert balancer.kept[1] == 20
    # Caption n names two concepts that have been seen about n times: kept with probability 1 - (1 - t/n)^2.
    expected = sum(keep_probability([n, n], 20) for n in range(1, 7981))
    spread = math.sqrt(sum(p * (1 - p) for p in (keep_probability([n, n], 20) for n in range(1, 7981))))
    assert abs(verdicts.count(None) - 20 - expected) < 5 * spread
    assert balancer.verdicts == {None: verdicts.count(None), DropReason.FREQUENT: verdicts.count(DropReason.FREQUENT)}


def test_decisions_depend_on_seed_and_order_alone_so_a_journal_restores_them():
    texts = stream(3000)

    def verdicts(seed: int, first: Balancer | None = None, start: int = 0) -> list[DropReason | None]:
        balancer = first or Balancer(["dog", "crane", "ball"], 20, seed)
        return [balancer.decide(i, texts[i]) for i in range(start, len(texts))]

    whole = verdicts(1)
    assert verdicts(1) == whole and verdicts(2) != whole
    resumed = Balancer(["dog", "crane", "ball"], 20, 1)
    for i in range(1700):
        resumed.decide(i, texts[i])
    assert verdicts(1, resumed, 1700) == whole[1700:]


def test_unmatched_and_repeated_captions_are_dropped():
    balancer = Balancer(["dog"], 20, 0)
    assert balancer.decide(0, "a dog on a sofa") is None
    assert balancer.decide(1, "a dog on a sofa") is DropReason.EXACT
    assert balancer.decide(2, "The dogs on the sofa.") is DropReason.NEAR
    assert balancer.decide(3, "a cat on a sofa") is DropReason.UNMATCHED
    assert balancer.seen == [1]  # duplicates do not count


def test_near_duplicates_have_the_same_words_not_similar_ones():
    duplicates = DuplicateFilter()
    assert duplicates.add("a red dog on a sofa") is None
    assert duplicates.add("on a sofa, a red dog") is DuplicateKind.NEAR
    assert duplicates.add("on a sofa, a red dog") is DuplicateKind.EXACT
    assert duplicates.add("a blue dog on a sofa") is None


@pytest.mark.parametrize("threshold", [0, -1, float("nan")])
def test_a_threshold_that_keeps_nothing_is_refused(threshold):
    with pytest.raises(UserError, match="positive number"):
        Balancer(["dog"], threshold, 0)


def test_the_benchmark_reports_balance_and_speed(tmp_path):
    bank = made_up_bank(3000)
    assert len(set(bank)) == 3000 and made_up_bank(3000) == bank
    texts = [text for chunk in written_captions(bank, 25_000) for text in chunk]
    assert len(texts) == 25_000
    result = bench_balance(bank, 25_000, threshold=20)
    assert json.loads(json.dumps(result)) == result
    assert sum(result["verdicts"].values()) == 25_000
    # Balanced: the most frequent concept keeps a smaller share of its captions than all concepts together.
    kept, frequent = result["verdicts"]["kept"], result["verdicts"]["frequent"]
    assert result["kept"][0][1] / result["seen"][0][1] < kept / (kept + frequent)
    assert "25,000 captions" in markdown(result)
    plot_flattening(result, tmp_path / "flattening.png")
    assert (tmp_path / "flattening.png").read_bytes().startswith(b"\x89PNG")
