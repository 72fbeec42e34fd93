"""The image-image term: StableRep's loss, its edge cases, and its place in the whole."""

from __future__ import annotations

import pytest
import torch
from loss_reference import Case, reference_loss

from polygen_stream.train.loss import multi_positive_loss

SCALE = torch.tensor(4.0, dtype=torch.float64)


def term(case: Case, seed: int = 0, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """The unweighted term, and its gradient in the images' own head."""
    images, texts = case.features(seed)
    head = images.clone().requires_grad_()
    loss, parts = multi_positive_loss(
        images, texts, SCALE, case.index, image_image_weight=1.0, image_image_features=head, **options
    )
    loss.backward()
    return parts["image_image"], head.grad


def plain(*owners: int) -> Case:
    texts = max(owners) + 1
    return Case(list(owners), [False] * texts, list(range(texts)))


def test_equals_stablereps_loss_as_its_own_code_has_it():
    """models/losses.py of google-research/syn-rep-learn: mask the diagonal, soft labels from equal captions."""
    case, temperature = plain(0, 0, 1, 1, 1, 2), 0.2
    images, _ = case.features(seed=0)
    labels = torch.tensor(case.image_text)
    mask = (labels[:, None] == labels).double().fill_diagonal_(0)
    logits = images @ images.T / temperature - 1e9 * torch.eye(6)
    p = mask / mask.sum(1, keepdim=True).clamp(min=1)
    expected = -(p * logits.log_softmax(1)).sum(1).mean()
    found, _ = term(case, image_image_temperature=temperature)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", [plain(0, 1, 2, 3), plain(0)], ids=["no positive", "alone"])
def test_anchor_without_a_positive_costs_nothing_and_is_not_nan(case):
    value, gradient = term(case)
    assert value == 0 and gradient.abs().max() == 0


def test_the_term_is_added_with_its_weight():
    case = plain(0, 0, 1, 1, 2, 2)
    images, texts = case.features(seed=1)
    without, _ = multi_positive_loss(images, texts, SCALE, case.index)
    loss, parts = multi_positive_loss(images, texts, SCALE, case.index, image_image_weight=0.7)
    torch.testing.assert_close(loss, without + 0.7 * parts["image_image"])


def test_other_polarity_is_no_candidate_unless_all_are():
    case = Case([0, 0, 1, 1, 2, 2, 3, 3], [False, False, True, True], [0, 1, 2, 3])
    apart, _ = term(case, seed=1)
    together, _ = term(case, seed=1, hn_t2i="all")
    images, texts = case.features(seed=1)
    lists = images.tolist(), texts.tolist(), 4.0, case
    for value, mode in ((apart, "same_polarity"), (together, "all")):
        difference = reference_loss(*lists, hn_t2i=mode, image_image_weight=1.0) - reference_loss(*lists, hn_t2i=mode)
        assert value.item() == pytest.approx(difference, rel=1e-9)
    assert apart < together


def test_negclip_has_no_negative_images():
    case = Case([0, 0, 1, 1, 2, 2], [False, False, True], [0, 1, 2])
    _, gradient = term(case, objective="negclip")
    assert gradient[:4].abs().max() > 1e-3 and gradient[4:].abs().max() == 0
