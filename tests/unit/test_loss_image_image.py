from __future__ import annotations

import math

import pytest
import torch

from polygen_stream.train.loss import Layout, image_image_loss, multi_positive_loss


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def by_loops(features, image_text, pool, temperature) -> float:
    """StableRep: mean over anchors of the cross-entropy between p (same caption) and q (softmax)."""
    features, owner, pool = features.tolist(), image_text.tolist(), pool.tolist()
    count, total = len(features), 0.0
    for a in range(count):
        others = [i for i in range(count) if i != a and pool[a][i]]
        matches = [i for i in others if owner[i] == owner[a]]
        if not matches:
            continue

        def weight(i: int, a: int = a) -> float:
            return math.exp(sum(x * y for x, y in zip(features[a], features[i], strict=True)) / temperature)

        everything = sum(weight(i) for i in others)
        total -= sum(math.log(weight(i) / everything) for i in matches) / len(matches)
    return total / count


@pytest.mark.parametrize("owners", [[0, 0, 1, 1], [0, 0, 0, 1, 2, 2], [0, 1, 2]])
def test_equals_stablereps_formula_written_as_loops(owners):
    features, image_text = unit(len(owners), 5), torch.tensor(owners)
    pool = torch.ones(len(owners), len(owners), dtype=torch.bool)
    found = image_image_loss(features, image_text, pool, temperature=0.2)
    assert found.item() == pytest.approx(by_loops(features, image_text, pool, 0.2), abs=1e-10)


def test_anchor_without_a_positive_costs_nothing():
    features, image_text = unit(4, 5).requires_grad_(), torch.arange(4)
    pool = torch.ones(4, 4, dtype=torch.bool)
    loss = image_image_loss(features, image_text, pool, temperature=0.1)
    loss.backward()
    assert loss.item() == 0 and features.grad.abs().max() == 0


def test_a_lone_image_costs_nothing_and_is_not_nan():
    features = unit(1, 5).requires_grad_()
    pool = torch.ones(1, 1, dtype=torch.bool)
    loss = image_image_loss(features, torch.zeros(1, dtype=torch.long), pool, temperature=0.1)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(features.grad).all()


def test_the_term_is_added_with_its_weight_and_temperature():
    layout = Layout.of(torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([False, False, True]))
    images, texts, scale = unit(6, 5, seed=1), unit(3, 5, seed=2), torch.tensor(4.0, dtype=torch.float64)
    without, _ = multi_positive_loss(images, texts, scale, layout)
    loss, parts = multi_positive_loss(images, texts, scale, layout, image_image_weight=0.7, image_image_temperature=0.3)
    negative = layout.text_negative[layout.image_text]
    pool = negative[:, None] == negative[None, :]
    assert parts["image_image"].item() == pytest.approx(by_loops(images, layout.image_text, pool, 0.3))
    torch.testing.assert_close(loss, without + 0.7 * parts["image_image"])


def test_other_polarity_is_no_candidate_unless_all_are():
    layout = Layout.of(torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), torch.tensor([False, False, True, True]))
    images, texts, scale = unit(8, 5, seed=1), unit(4, 5, seed=2), torch.tensor(4.0, dtype=torch.float64)
    parts = {
        mode: multi_positive_loss(images, texts, scale, layout, hn_t2i=mode, image_image_weight=1.0)[1]
        for mode in ("same_polarity", "all")
    }
    everyone = torch.ones(8, 8, dtype=torch.bool)
    expected = by_loops(images, layout.image_text, everyone, 0.1)
    assert parts["all"]["image_image"].item() == pytest.approx(expected)
    assert parts["same_polarity"]["image_image"].item() < expected
