"""What counts as right, on features with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.linear_probe import few_shot, linear_probe
from polygen_stream.evaluate.metrics import best_ranks, class_features, group_scores, more_similar, ranks, text_only
from polygen_stream.evaluate.micro_suite import PROMPTS, build_suite, chance, colour_prompts, thing_prompts
from polygen_stream.evaluate.score import Score, mean_of, proportion
from polygen_stream.micro import edits, world
from polygen_stream.micro.world import Split


def test_the_rank_of_the_right_class():
    images = normalize(torch.tensor([[1.0, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 0.2, 1], [0, 0, 1, 0.9]]), dim=-1)
    assert ranks(images, torch.eye(4), torch.tensor([0, 1, 2, 2])).tolist() == [1, 1, 2, 1]


def test_class_features_are_the_normalised_mean():
    features = class_features(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    assert torch.allclose(features, torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_a_tie_counts_against_the_model():
    constant, own = normalize(torch.ones(4, 4), dim=-1), torch.arange(4)
    assert ranks(constant, constant, own).tolist() == [4, 4, 4, 4], "a constant encoder retrieves nothing"
    assert ranks(torch.eye(4), torch.eye(4).roll(1, 0), own).min() > 1
    assert best_ranks(constant, constant, own).tolist() == [4, 4, 4, 4]


def test_the_best_of_several_captions_decides():
    images = torch.eye(3)
    texts = normalize(torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 1, 0.1], [0, 0, 1], [0.9, 0.1, 0]]), dim=-1)
    owner = torch.tensor([0, 0, 1, 2, 2])
    # image 0 has the best caption of all; image 1's is behind the first one's wrong caption
    assert best_ranks(images, texts, owner).tolist() == [1, 2, 1]


def test_nan_is_never_right():
    bad = torch.full((3, 4), torch.nan)
    good, own = torch.eye(4)[:3], torch.arange(3)
    for images, texts in ((bad, good), (good, bad), (bad, bad)):
        assert ranks(images, texts, own).min() > 3
        assert best_ranks(images, texts, own).min() > 3
        assert not more_similar(images, texts, good.roll(1, 0)).any()
        assert not text_only(images, texts, good).any()
    one = torch.eye(4).clone()
    one[2] = torch.nan
    assert ranks(torch.eye(4), one, torch.arange(4)).tolist()[2] > 4
    assert not any(
        answers.any() for answers in group_scores(bad[:, None].expand(3, 2, 4), good[:, None].expand(3, 2, 4))
    )


def test_nan_is_never_right_in_a_probe():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    features = np.eye(2)[labels] + 0.01 * rng.normal(size=(60, 2))
    asked = features.copy()
    asked[:5] = np.nan
    assert linear_probe(features, labels, asked, labels).tolist() == [False] * 5 + [True] * 55
    few = few_shot(features, labels, asked, labels, shots=2, draws=2)
    assert few.tolist() == [[False] * 5 + [True] * 55] * 2
    with pytest.raises(UserError, match="0 of 60"):
        linear_probe(np.full_like(features, np.nan), labels, asked, labels)


def test_compositional_accuracy_is_strict():
    image = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    caption = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    negative = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]])
    assert more_similar(image, caption, negative).tolist() == [True, False, False]


def test_text_only_wants_the_two_captions_closest_to_each_other():
    first, second = torch.tensor([[1.0, 0.0]]), normalize(torch.tensor([[1.0, 0.3]]), dim=-1)
    between, far = normalize(torch.tensor([[1.0, 0.2]]), dim=-1), torch.tensor([[0.0, 1.0]])
    assert text_only(first, second, far).item()
    assert not text_only(first, second, between).item()


def test_winoground_scores():
    images = torch.eye(2)[None].repeat(3, 1, 1)
    texts = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [1.0, 0.0]]])
    text, image, group = group_scores(images, texts)
    # case 2: either picture has the closer text of its own, but text 1 is closer to picture 0
    assert text.tolist() == [True, True, False]
    assert image.tolist() == [True, False, False]
    assert group.tolist() == [True, False, False]


def test_a_proportion_has_its_wilson_interval():
    found = proportion(np.arange(100) < 80, chance=0.5)
    z, p, n = 1.959964, 0.8, 100
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found.low == pytest.approx((centre - half) / (1 + z * z / n))
    assert found.high == pytest.approx((centre + half) / (1 + z * z / n))
    assert (found.score, found.n, found.chance) == (0.8, 100, 0.5)


def test_the_interval_of_a_mean_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    shares, covered = np.array([0.3, 0.6, 0.9]), 0
    for _ in range(600):
        covered += (found := mean_of([proportion(rng.random(80) < p) for p in shares])).low <= 0.6 <= found.high
    assert covered / 600 == pytest.approx(0.95, abs=0.025)
    assert mean_of([Score(0.2, 0.1, 0.3, 5, 0.5), Score(0.4, 0.3, 0.5, 7, 0.1)]).chance == pytest.approx(0.3)


@pytest.fixture(scope="module")
def unseen():
    return build_suite(Split.UNSEEN, images_per_thing=2)


def test_the_suite_asks_about_every_thing_and_every_edit(unseen):
    assert sorted(set(unseen.classification.things.tolist())) == list(range(len(world.THINGS)))
    assert set(unseen.compositional.edits) == set(edits.EDITS)
    assert len(set(unseen.retrieval.captions)) == len(unseen.retrieval.captions) == len(unseen.retrieval.images)


def test_the_suite_is_the_same_every_time_and_differs_between_splits(unseen):
    again, seen = build_suite(Split.UNSEEN, 2), build_suite(Split.SEEN, 2)
    assert (unseen.classification.images == again.classification.images).all()
    assert unseen.compositional.negatives == again.compositional.negatives
    assert not set(unseen.retrieval.captions) <= set(seen.retrieval.captions)


def test_chance_is_one_over_the_number_of_choices():
    assert chance()["zero_shot_things"] == 1 / 24 <= 0.05
    assert chance()["compositional_by_edit"].keys() == set(edits.EDITS)


def test_prompts_are_grammatical():
    things, colours = thing_prompts(), colour_prompts()
    assert things[world.THINGS.index("apple")][1] == "a picture of an apple"
    assert {len(p) for p in things} == {len(PROMPTS)}
    assert colours[world.COLOURS.index("orange")][0] == "an orange house"
