"""Objectives: the package's own by name, one of the user's own, and what it may not return."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from polygen_stream.base.errors import PolygenError
from polygen_stream.config import TrainConfig
from polygen_stream.train.loss import multi_positive_loss
from polygen_stream.train.objectives import find_objective
from polygen_stream.train.text_image_index import TextImageIndex

INDEX = TextImageIndex.from_tensors(torch.tensor([0, 0, 1, 2, 2]), torch.tensor([False, False, True]))


def features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(n, 8), dim=-1).requires_grad_() for n in (5, 3))
    return images, texts, torch.tensor(10.0)


@pytest.mark.parametrize("name", ["multi_positive", "negclip", "infonce"])
def test_a_name_is_the_loss_of_that_name_with_the_configs_settings(name: str):
    config = TrainConfig(objective=name, image_image_weight=0.5, image_image_temperature=0.2, loss_chunk=2)
    got = find_objective(config)(*features(), INDEX, image_image_features=None, config=config, group=None)
    expected = multi_positive_loss(
        *features(), INDEX, objective=name, image_image_weight=0.5, image_image_temperature=0.2, chunk=2
    )
    assert torch.equal(got[0], expected[0]) and got[1] == expected[1]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of the user's own, of which every test has another."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"my_losses_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        "def call(returned):\n"
        "    return lambda images, texts, scale, index, *, config, group, image_image_features: returned(images)\n"
        "good = call(lambda images: (images.sum(), {'sum': images.sum()}))\n"
        "bare = call(lambda images: images.sum())\n"
        "rows = call(lambda images: (images.sum(1), {}))\n"
        "number = call(lambda images: (1.0, {}))\n"
        "cut = call(lambda images: (images.detach().sum(), {}))\n"
        "part = call(lambda images: (images.sum(), {'per image': images.sum(1)}))\n"
    )
    return name


def test_an_objective_of_ones_own_gets_the_batch(module: str):
    config = TrainConfig(objective=f"{module}:good")
    images, texts, scale = features()
    loss, parts = find_objective(config)(
        images, texts, scale, INDEX, image_image_features=None, config=config, group=None
    )
    assert loss.requires_grad and torch.equal(parts["sum"], loss.detach()) and not parts["sum"].requires_grad


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bare", "returned Tensor, not a tuple of the loss and a dict"),
        ("rows", r"returned a loss of shape \[5\], not a scalar"),
        ("number", "returned a loss of type float, not a tensor"),
        ("cut", "returned a loss that has no gradient"),
        ("part", "returned 'per image' among the loss's parts, which is not a scalar tensor"),
    ],
)
def test_what_no_step_can_be_taken_with_is_refused(module: str, name: str, told: str):
    config = TrainConfig(objective=f"{module}:{name}")
    with pytest.raises(PolygenError, match=f"train.objective = '{module}:{name}' {told}"):
        find_objective(config)(*features(), INDEX, image_image_features=None, config=config, group=None)
