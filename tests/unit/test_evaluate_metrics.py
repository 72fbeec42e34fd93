"""Scores on features with known answers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from polygen_stream.evaluate.metrics import class_features, compositional_accuracy, recall_at_k, zero_shot_accuracy
from polygen_stream.evaluate.micro_suite import PROMPTS, build_suite, chance, colour_prompts, thing_prompts
from polygen_stream.micro import edits, world
from polygen_stream.micro.world import Split


def test_zero_shot_counts_the_right_class():
    classes = torch.eye(4)
    images = normalize(torch.tensor([[1.0, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 0.2, 1], [0, 0, 1, 0.9]]), dim=-1)
    assert zero_shot_accuracy(images, classes, torch.tensor([0, 1, 2, 2])) == 0.75


def test_class_features_are_the_normalised_mean():
    features = class_features(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    assert torch.allclose(features, torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_recall_counts_own_candidates_and_ties_against_the_model():
    queries = torch.eye(4)
    assert recall_at_k(queries, torch.eye(4), 1) == 1.0
    rolled = torch.eye(4).roll(1, 0)
    assert recall_at_k(queries, rolled, 1) == 0.0
    constant = normalize(torch.ones(4, 4), dim=-1)
    assert recall_at_k(constant, constant, 1) == 0.0, "a constant encoder retrieves nothing"
    assert recall_at_k(constant, constant, 4) == 1.0


def test_compositional_accuracy_is_strict():
    image = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    caption = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    negative = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]])
    assert compositional_accuracy(image, caption, negative).tolist() == [True, False, False]


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
