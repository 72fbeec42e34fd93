"""The compositional test of the micro world: what its captions say of their pictures, and what they give away."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from blind_rules import chosen, chosen_last, rules
from caption_truth import is_true
from torch import Tensor

from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.micro_suite import EditedPairs, MicroSuite, build_suite
from polygen_stream.evaluate.score_suite import score_suite
from polygen_stream.micro import edits
from polygen_stream.micro.oracle import canonical
from polygen_stream.micro.parse import parse
from polygen_stream.micro.world import Scene, Split, Thing, is_reserved

RULES = rules()


@cache
def suite_of(split: Split) -> MicroSuite:
    return build_suite(split, images_per_thing=1, retrieval_pairs=2)


@pytest.fixture(params=Split, ids=lambda split: split.value)
def split(request) -> Split:
    return request.param


@pytest.fixture
def pairs(split) -> EditedPairs:
    return suite_of(split).compositional


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_that_reads_the_texts_alone_finds_the_true_caption(rule, pairs):
    right = chosen(RULES[rule], pairs.captions, pairs.negatives)
    assert 0.48 <= right.mean() <= 0.52
    for edit in edits.EDITS:
        assert right[np.array(pairs.edits) == edit].mean() == 0.5, edit


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_that_reads_the_texts_alone_passes_micro_sugarcrepe_pp(rule, pairs):
    both = chosen_last(RULES[rule], pairs.captions, pairs.paraphrases, pairs.negatives)
    assert both.mean() <= 1 / 3 + 0.02
    assert 0.47 <= chosen(RULES[rule], pairs.paraphrases, pairs.negatives).mean() <= 0.53


def test_a_rule_that_knows_which_caption_is_longer_is_seen_by_these_rules():
    always_longer = ["a red cat on a beach"] * 3, ["a red cat"] * 3
    assert chosen(RULES["longer in words"], *always_longer).tolist() == [1, 1, 1]
    assert chosen(RULES["shorter in characters"], *always_longer).tolist() == [0, 0, 0]
    tied = chosen_last(RULES["longer in words"], ["a b", "a b", "a b c"], ["a b", "a b c", "a b c"], ["a b"] * 3)
    assert tied.tolist() == [1 / 3, 1 / 2, 1]


def test_of_two_captions_each_is_the_true_one_of_a_picture(pairs):
    true_first = Counter(zip(pairs.captions, pairs.negatives, strict=True))
    assert true_first == Counter(zip(pairs.negatives, pairs.captions, strict=True))


def test_captions_and_paraphrases_are_true_of_their_pictures_and_negatives_are_false(pairs):
    wrong = [
        (edit, text, scene)
        for edit, *texts, scene in zip(
            pairs.edits, pairs.captions, pairs.paraphrases, pairs.negatives, pairs.scenes, strict=True
        )
        for text, expected in zip(texts, (True, True, False), strict=True)
        if is_true(text, scene) != expected
    ]
    assert not wrong, wrong[0]


def test_a_caption_that_leaves_something_out_is_no_false_one():
    scene = Scene((Thing("cat", "red", material="striped"), Thing("key", "blue")), "beach", "left of", lighting="night")
    for text in (
        "a cat",
        "a key",
        "a red cat left of a key",
        "a key right of a striped cat on a beach",
        "a key at night",
    ):
        assert is_true(text, scene), text
    assert is_true("a cat on the left", scene) and not is_true("a cat on the right", scene)
    for text in (
        "a blue cat",
        "a striped key",
        "a cat right of a key",
        "two cats",
        "a cat in the rain",
        "a cat at sea",
    ):
        assert not is_true(text, scene), text


def test_a_paraphrase_says_the_same_in_another_way(pairs):
    for caption, other in zip(pairs.captions, pairs.paraphrases, strict=True):
        assert caption != other and canonical(parse(caption)) == canonical(parse(other))
        if parse(caption).is_pair:
            assert parse(caption).things == parse(other).things[::-1], other


def test_every_edit_has_as_many_pictures_of_its_split(pairs, split):
    assert Counter(pairs.edits) == dict.fromkeys(edits.EDITS, 60)
    assert len(pairs.images) == len(pairs.captions) == 14 * 60
    assert {is_reserved(scene) for scene in pairs.scenes} == {split is Split.UNSEEN}


class ReadsTexts(Encoder):
    """Takes a picture of the test for its caption; `meaning` is what it makes of a text."""

    def __init__(self, pairs: EditedPairs, meaning) -> None:
        self.meaning = meaning
        self.known = {image.tobytes(): text for image, text in zip(pairs.images, pairs.captions, strict=True)}
        self.seen: dict[object, int] = {}

    def images(self, images: np.ndarray) -> Tensor:
        return self.texts([self.known.get(image.tobytes(), "a red cat") for image in images])

    def texts(self, texts: list[str]) -> Tensor:
        rows = torch.zeros(len(texts), 4000)
        for row, text in zip(rows, texts, strict=True):
            for part in self.meaning(text):
                row[self.seen.setdefault(part, len(self.seen))] += 1
        return torch.nn.functional.normalize(rows, dim=-1)


def test_who_understands_captions_passes_and_who_knows_their_words_does_not():
    suite = suite_of(Split.UNSEEN)
    understands = ReadsTexts(suite.compositional, lambda text: [canonical(parse(text))])
    found = score_suite(understands, suite)
    for name in (
        "compositional",
        "micro_sugarcrepe_pp_itt",
        "micro_sugarcrepe_pp_paraphrase",
        "micro_sugarcrepe_pp_tot",
    ):
        assert found.scores[name].score == 1, name
    assert found.scores["micro_sugarcrepe_pp_itt"].chance == pytest.approx(1 / 3)
    knows_words = score_suite(ReadsTexts(suite.compositional, str.split), suite)
    assert knows_words.by_edit["swap_object"].score == knows_words.by_edit["swap_attribute"].score == 0
    assert knows_words.by_edit["replace_object"].score == 1
    # the negative has the caption's wording, the paraphrase another one
    assert knows_words.scores["micro_sugarcrepe_pp_tot"].score < 0.1
    values = knows_words.values()
    assert values["micro_sugarcrepe_pp_itt_by_edit"].keys() == set(edits.EDITS)
    assert values["micro_sugarcrepe_pp_itt"] <= values["compositional"]
