"""The optimizer step of every shipped GPU config at its batch, on an A100 and an H100: memory, host waits, copies."""

from __future__ import annotations

from functools import cache

import null_gpu
import pytest
from planned_memory import planned_gib

from polygen_stream.config import load_config

pytestmark = pytest.mark.rehearsal
CONFIGS = ("paper", "single_gpu")


@cache
def trained(name: str, capability: int) -> dict:
    return null_gpu.run("train", name, capability=capability)


def test_the_other_shipped_configs_have_the_step_of_paper():
    """A node of configs/multi_node.toml too, which takes half of a batch that is twice as large."""
    own = {"steps", "checkpoint_every", "hn_weight"}  # `paper` weighs the halves of the loss as the author does
    paper, node, multi = (
        load_config(name).train.model_dump(exclude=own) for name in ("paper", "node_8gpu", "multi_node")
    )
    assert node == paper and multi == {**paper, "batch": 2 * paper["batch"]}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_host_waits_for_nothing_but_the_results(name: str, capability: int, record):
    figures, config = trained(name, capability), load_config(name)
    assert figures["texts"] == config.train.batch and figures["negatives"] == config.train.batch // 2
    assert figures["images"] == config.train.batch * config.generators.positives
    assert figures["drawing"]["waits"] == []
    assert figures["step"]["waits"] == [], "a step is issued without waiting for the device"
    [(place, count)] = figures["reading"]["waits"]
    assert place.startswith("train/step.py") and count == 1, "the results are waited for once"
    record(f"{name}, sm_{capability}: host waits in issuing a step, in reading its results", f"0, {count}")


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", CONFIGS)
def test_copies_to_the_device_are_out_of_pinned_memory(name: str, capability: int):
    figures = trained(name, capability)
    assert figures["drawing"]["bytes"] > figures["images"] * 3 * load_config(name).ring.image_size ** 2
    assert (figures["drawing"]["pageable"], figures["step"]["pageable"]) == (0, 0)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_plan_has_the_memory_of_a_step(name: str, capability: int, record):
    figures, (allocated, reserved) = trained(name, capability), planned_gib(load_config(name), "trainer")
    what = f"{name}, sm_{capability}: step of {figures['images']} images, GiB"
    record(f"{what} allocated", f"{figures['peak']:.1f}", f"{allocated:.1f}")
    record(f"{what} reserved", f"{figures['reserved']:.1f}", f"{reserved:.1f}")
    assert figures["peak"] == pytest.approx(allocated, rel=0.15)
    assert figures["reserved"] == pytest.approx(reserved, rel=0.15)
