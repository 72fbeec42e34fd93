"""What every process takes of a GPU's memory."""

from __future__ import annotations

import pytest
from gpu_plans import node

from polygen_stream.assets.resources import config_path
from polygen_stream.capacity.gpus import GIB, parse_gpus
from polygen_stream.capacity.memory import gpu_needs, renderer_items, trainer_items
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import build_process_plan

# One step of these configs on a CUDA device that computes nothing, torch 2.14: GiB that the allocator had given out at
# most, and had reserved. The step has one batch of pixels, a run two.
STEPS = [
    ("paper", {}, 37.85, 40.72),
    ("paper", {"train.accum_freq": "16"}, 21.58, 26.11),
    ("paper", {"train.accum_freq": "4"}, 70.36, 74.24),
    ("paper", {"train.accum_freq": "1", "train.batch": "128"}, 37.23, 38.18),
    ("paper", {"train.model": "ViT-B-32"}, 13.73, 18.13),
    ("paper", {"train.model": "ViT-L-14", "train.accum_freq": "32"}, 37.38, 40.09),
    ("single_gpu", {}, 7.25, 7.47),
    ("single_gpu", {"train.accum_freq": "1"}, 24.20, 24.67),
]


@pytest.mark.parametrize(("preset", "changes", "allocated", "reserved"), STEPS)
def test_the_trainers_memory_is_what_torchs_allocator_counts(
    preset: str, changes: dict[str, str], allocated: float, reserved: float
):
    config = load_config(config_path(preset), changes)
    items = {item.what: item.gib for item in trainer_items(config)}
    freed = items.pop("allocator")
    planned = sum(items.values()) - items["pixels"] / 2
    assert planned == pytest.approx(allocated, rel=0.02)
    assert planned + freed == pytest.approx(reserved, rel=0.12)


@pytest.mark.parametrize(
    ("name", "allocated", "reserved"),
    [("sd15", 3.01, 5.71), ("sd2", 3.01, 5.71), ("sana", 3.29, 6.16), ("sdxl_turbo", 6.00, 11.47)],
)
def test_an_eager_renderers_memory_is_what_torchs_allocator_counts(name: str, allocated: float, reserved: float):
    """Eight pictures of 512 pixels on such a device, beyond the weights."""
    config = node(generators__recipes=name, generators__backend="eager", launch__renderers="{}")
    items = {item.what: item.gib for item in renderer_items(config, name)}
    assert items["activations"] == pytest.approx(allocated, rel=0.1)
    assert items["activations"] + items["allocator"] == pytest.approx(reserved, rel=0.1)


def test_several_ranks_have_their_part_of_the_batch_and_buckets_of_gradients():
    one, two = node(), node(train__ranks="2", train__device="cuda")
    alone, shared = ({item.what: item.gib for item in trainer_items(each)} for each in (one, two))
    for what in ("pixels", "crops", "activations", "logits", "allocator"):
        assert shared[what] == pytest.approx(alone[what] / 2), what
    assert shared["gradient buckets"] == pytest.approx(149.6e6 * 4 / GIB, rel=0.01) and "NCCL" in shared


def test_weights_of_a_renderer_are_those_of_its_recipe_in_its_types():
    config = node(generators__recipes="sdxl_turbo", launch__renderers='{sdxl_turbo = ["cuda:2"]}')
    [need] = gpu_needs(config, build_process_plan(config, there=False), parse_gpus("8"))[2]
    weights = next(item for item in need.items if item.what == "weights")
    assert weights.gib == pytest.approx((123.1 * 2 + 694.7 * 2 + 2567.5 * 2 + 83.7 * 4) * 1e6 / GIB)
