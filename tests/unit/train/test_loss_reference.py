"""Every loss against an independent implementation in Python floats, on random shapes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_reference import Case, reference_loss

from polygen_stream.train.loss import multi_positive_loss

OBJECTIVES = [
    *({"objective": "multi_positive", "hn_t2i": mode} for mode in ("same_polarity", "none", "all")),
    {"hn_weight": "one", "image_image_candidates": "all"},
    {"objective": "negclip"},
    {"objective": "infonce"},
]
TERMS = [{}, {"image_image_weight": 0.7, "image_image_temperature": 0.3}]
OPTIONS = [objective | term for objective, term in product(OBJECTIVES, TERMS)]


@st.composite
def cases(draw) -> Case:
    """1 to 6 captions of 1 to 8 images, some with a negative of 1 to 8 images, in any order; words may repeat."""
    positives = draw(st.integers(1, 6))
    negatives = draw(st.integers(0, positives))
    texts = positives + negatives
    counts = draw(st.lists(st.integers(1, 8), min_size=texts, max_size=texts))
    negative = draw(st.permutations([False] * positives + [True] * negatives))
    image_text = draw(st.permutations([t for t, count in enumerate(counts) for _ in range(count)]))
    words = draw(st.lists(st.integers(0, texts), min_size=texts, max_size=texts)) if draw(st.booleans()) else None
    return Case(image_text, negative, words or list(range(texts)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@given(case=cases(), seed=st.integers(0, 99), chunk=st.sampled_from([0, 1, 3, 8]))
@settings(max_examples=25, deadline=None)
def test_equals_the_formulas_written_as_loops(options, case, seed, chunk):
    images, texts = case.features(seed)
    expected = reference_loss(images.tolist(), texts.tolist(), 5.0, case, **options)
    scale = torch.tensor(5.0, dtype=torch.float64)
    loss, _ = multi_positive_loss(images, texts, scale, case.index, chunk=chunk, **options)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    single, _ = multi_positive_loss(images.float(), texts.float(), scale.float(), case.index, chunk=chunk, **options)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


MIXED = Case([0, 0, 1, 2, 2, 2, 3, 4, 4], [False, False, False, True, True], [10, 11, 12, 13, 14])
REPEATED = Case([0, 0, 1, 2, 3, 3, 4], [False, False, False, True, True], [10, 11, 10, 11, 14])  # 3 repeats T+ 1


@pytest.mark.parametrize("case", [MIXED, REPEATED], ids=["different", "repeated"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("chunk", [0, 2])
def test_gradients_are_those_of_the_value(case, options, chunk):
    images, texts = (x.requires_grad_() for x in case.features(seed=1, dim=3))
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)

    def value(images, texts, scale):
        return multi_positive_loss(images, texts, scale, case.index, chunk=chunk, **options)[0]

    assert torch.autograd.gradcheck(value, (images, texts, scale))


def test_repeated_words_are_no_negatives_of_each_other():
    """Every image lies on its caption and far from the other one: there is nothing left to learn."""
    axes = torch.eye(2, dtype=torch.float64)
    gradients = {}
    for name, words in (("one caption", [10, 11, 10]), ("two captions", [10, 11, 12])):
        case = Case([0, 0, 1, 2], [False] * 3, words)
        images, texts = axes[[0, 0, 1, 0]].clone().requires_grad_(), axes[[0, 1, 0]]
        loss, _ = multi_positive_loss(images, texts, torch.tensor(200.0, dtype=torch.float64), case.index)
        loss.backward()
        gradients[name] = images.grad.abs().max()
    assert gradients["one caption"] < 1e-12
    assert gradients["two captions"] > 1


@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_chunks_change_neither_value_nor_gradient(options, chunk):
    results = []
    for rows in (0, chunk):
        images, texts = (x.requires_grad_() for x in MIXED.features(seed=3))
        scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
        loss, parts = multi_positive_loss(images, texts, scale, MIXED.index, chunk=rows, **options)
        loss.backward()
        results.append((loss.detach(), parts, images.grad, texts.grad, scale.grad))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-14)


def test_a_head_of_its_own_changes_the_image_image_term_alone():
    images, texts = MIXED.features(seed=4)
    head, _ = MIXED.features(seed=5, dim=4)
    options = {"image_image_weight": 0.7, "image_image_temperature": 0.3}
    scale = torch.tensor(5.0, dtype=torch.float64)
    loss, parts = multi_positive_loss(images, texts, scale, MIXED.index, image_image_features=head, **options)
    lists = [x.tolist() for x in (images, texts, head)]
    assert loss.item() == pytest.approx(
        reference_loss(lists[0], lists[1], 5.0, MIXED, image_image_features=lists[2], **options), rel=1e-9
    )
    _, plain = multi_positive_loss(images, texts, scale, MIXED.index, **options)
    assert parts["i2t"] == plain["i2t"] and parts["t2i"] == plain["t2i"]
    assert abs(parts["image_image"] - plain["image_image"]) > 1e-3
