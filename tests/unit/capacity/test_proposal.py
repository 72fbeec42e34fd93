"""Proposals for a number of GPUs: their books, the ring, the remedies, and the shipped configs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from gpu_plans import node, number, settings
from rich.console import Console

from polygen_stream.capacity.proposal import demand_of, propose, remedies
from polygen_stream.capacity.proposal_view import show_proposal
from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import load_config


def test_a_proposal_keeps_its_books():
    config = node()
    rates, demand = find_rates(config), demand_of(config)
    found = propose(config, rates, 8)
    assert (found.trainers, found.captioners, found.renderers) == (1, 1, 6)
    assert demand.step_captions == pytest.approx(0.75 * 1024, rel=1e-3)  # p rises from 0 to 0.5
    assert demand.step_images == pytest.approx(4096)
    # What is drawn is what is rendered, as often as it is drawn; what is trained on takes the trainer's time.
    assert found.steps_per_s * demand.step_captions == pytest.approx(found.captions_per_s * found.reuse)
    assert found.steps_per_s * demand.step_images == pytest.approx((1 - found.trainer_waits) * rates.trainer.per_s)
    assert found.images == pytest.approx(found.images_per_s * found.seconds)
    assert found.gpu_hours == pytest.approx(8 * found.seconds / 3600)


@pytest.mark.parametrize(("preset", "gpus"), [("paper", 8), ("node_8gpu", 8), ("single_gpu", 1)])
def test_a_plan_and_the_shipped_config_agree_on_the_ring(preset: str, gpus: int):
    config = load_config(preset)
    found = propose(config, find_rates(config), gpus).ring
    assert found.own and found.slots == config.ring.slots


def test_a_ring_that_is_too_small_is_raised_to_all_images_of_the_run_or_to_batches():
    config = node(ring__slots="20480")
    rates = find_rates(config)
    long = propose(config, rates, 8)
    short = propose(config, rates, 8, images=10_000)
    assert not long.ring.own and long.images <= long.ring.slots < long.images + 1024
    assert not short.ring.own and short.ring.slots == short.ring.for_batches == 16 * 4096


def test_a_smaller_ring_is_told_what_it_costs():
    told = said(node(ring__slots="65536"), None)
    assert "not ring.slots = 65536, which hold 11809 of 1152000 captions" in told
    assert "drawn its 40 times within 615 of 60000 steps, and never again" in told  # 11,809 x 40 / 768
    assert "not ring.slots" not in said(node(), None)


@pytest.mark.parametrize(("memory", "storage"), [(None, "runs"), (2000.0, "runs"), (2600.0, "memory")])
def test_images_lie_in_memory_if_half_of_it_is_enough(memory, storage):
    folder = storage if storage == "memory" else Path(storage).absolute()
    assert f'ring.storage = "{folder}"' in said(node(), memory)  # 1,257 GB


def said(config, memory: float | None) -> str:
    rates, console = find_rates(config), Console(file=io.StringIO(), width=400)
    show_proposal(config, rates, propose(config, rates, 8), console, memory)
    return console.file.getvalue()


@pytest.mark.parametrize("preset", ["paper", "node_8gpu"])
def test_a_shipped_config_has_the_settings_of_its_plan(preset: str):
    config, said = load_config(preset), settings(load_config(preset), 8)
    assert number(said["generators.batch"]) == config.generators.batch
    assert number(said["ring.slots"]) == config.ring.slots
    assert number(said["train.ranks"]) == config.train.ranks
    renderers = {name: list(devices) for name, devices in config.launch.renderers.items()}
    assert {key.split('"')[1]: json.loads(value) for key, value in said.items() if "renderers" in key} == renderers
    assert "captions.device" not in said and "launch.time_slice_s" not in said


def test_the_remedy_of_more_reuse_ends_the_wait_and_a_busy_trainer_needs_none():
    config = node()
    rates = find_rates(config)
    idle = propose(config, rates, 8)
    more = next(after for what, after, _ in remedies(config, rates, idle) if "is used" in what)
    assert idle.trainer_waits == pytest.approx(0.264, abs=0.005) and more.trainer_waits == pytest.approx(0, abs=1e-6)
    assert more.images < idle.images
    assert remedies(config, rates, more) == []


def test_a_budget_of_images_sets_the_steps():
    config = node()
    found = propose(config, find_rates(config), 4, images=100_000)
    assert found.images == pytest.approx(100_000, rel=0.01)


def test_one_gpu_is_proposed_with_all_that_lets_processes_leave_it():
    config = node()
    rates, console = find_rates(config), Console(file=io.StringIO(), width=300)
    show_proposal(config, rates, propose(config, rates, 1), console)
    told = console.file.getvalue()
    for setting in ("launch.time_slice_s = 120.0", 'generators.backend = "eager"', "captions.sleep_after_s = 5.0"):
        assert setting in told


def test_one_gpu_takes_turns_and_more_gpus_are_never_slower():
    config = node()
    rates = find_rates(config)
    speeds = [propose(config, rates, count).steps_per_s for count in (1, 2, 4, 8, 16)]
    assert speeds == sorted(speeds)
    assert propose(config, rates, 1).renderers == 0
