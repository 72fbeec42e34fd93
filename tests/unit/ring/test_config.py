"""From the run config to the ring: what deterministic mode derives, and what is refused with the arithmetic."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.config import load_config, node_share
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.ring.window import TaskWindow, capacity

DETERMINISTIC = {"ring.mode": "deterministic"}


def test_the_micro_preset_can_be_deterministic():
    config = load_config("micro", DETERMINISTIC)
    spec = ring_spec(config)
    assert spec.deterministic
    assert spec.window == 3 * capacity(spec) // 4  # room to work ahead
    window = TaskWindow.of(spec)
    assert window.due(0) == config.ring.min_fill
    assert abs(window.due(config.train.steps) - config.captions.target) <= 1


def test_all_of_production_is_the_window_if_it_fits():
    spec = ring_spec(load_config("micro", DETERMINISTIC | {"captions.target": "1000"}))
    assert spec.window == 1000


def test_samples_per_insert_sets_the_pace():
    paced = DETERMINISTIC | {"ring.samples_per_insert": "16.0", "curriculum.end": "0.0", "captions.target": "0"}
    spec = ring_spec(load_config("micro", paced))
    assert spec.inserts_per_step == 128 / 16
    assert spec.samples_per_insert == 0.0  # no rate limiter beside it


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ring.window": "3073"}, r"= 3073 captions x up to 4 images = 12292 do not fit ring.slots = 12288.* to 3072"),
        ({"ring.window": "127"}, r"127 captions is less than ring.min_fill = 128"),
        ({"ring.max_age": "5"}, r"ring.max_age = 5 has no meaning with ring.mode = 'deterministic'"),
        (
            {"curriculum.leftover_age": "5"},
            r"curriculum.leftover_age = 5 has no meaning with ring.mode = 'deterministic'",
        ),
        ({"ring.max_times_sampled": "99"}, r"ring.max_times_sampled = 99 has no meaning"),
        ({"captions.target": "0"}, r"needs a pace: set ring.samples_per_insert"),
    ],
)
def test_a_config_that_cannot_be_deterministic_is_refused(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        load_config("micro", DETERMINISTIC | changes)


def test_late_captions_catch_up_in_a_ring_that_holds_all_of_them():
    spec = ring_spec(load_config("micro", {"ring.catch_up": "4"}))
    assert (spec.catch_up, spec.expected_groups) == (4.0, 3600)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"ring.slots": "8192"},
            r"3,600 captions have about 9,9\d\d images, and ring.slots = 8,192: raise",
        ),
        ({"captions.target": "0"}, r"= 0 captions have no end, and ring.slots = 12,288: raise ring.slots, lower"),
    ],
)
def test_a_ring_in_which_captions_push_out_others_has_none_catch_up(changes, complaint):
    config = load_config("micro", {"ring.catch_up": "4"} | changes)
    with pytest.raises(UserError, match=complaint):
        ring_spec(config)


def test_a_node_of_several_holds_its_own_captions():
    config = load_config("micro", {"ring.catch_up": "4", "ring.slots": "4096"})
    assert ring_spec(node_share(config, 4)).expected_groups == 900


def test_the_other_limits_reach_the_ring():
    spec = ring_spec(load_config("micro", {"ring.max_age": "50", "ring.max_backlog": "64"}))
    assert (spec.max_age, spec.max_backlog, spec.mode, spec.window) == (50, 64, "throughput", 0)
