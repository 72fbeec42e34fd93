"""What a plan says of the memory of GPUs, and what it refuses with numbers."""

from __future__ import annotations

import pytest
from gpu_plans import budget, node

from polygen_stream.capacity.memory import (
    loading_gib,
)
from polygen_stream.config import load_config


def test_the_node_fits_eight_large_gpus_and_says_so_with_its_arithmetic():
    told = budget(node(), "8xH100-80G")
    assert "refused" not in told
    assert "0.42 x 80 GiB = weights 13.5 + graphs 1.5 + KV cache 18.6" in told
    assert "unet 859.5 M float16" in told and "8 pictures x 2 GiB (float32 decoder)" in told
    assert told.count("engines: ") == 1


def test_what_does_not_fit_is_refused_with_the_numbers():
    told = budget(node(), "8xA10-24G")
    assert "cuda:0 (A10-24G) has 22.8 GiB to give, and trainer 43.4 = 43.4 GiB are asked for" in told
    assert "captions.gpu_memory_utilization = 0.42 of 24 GiB = 10.1 GiB holds no cache beside the weights" in told
    assert "the config uses cuda:7, and there are 4 GPUs" in budget(node(), "4xH100-80G")
    together = node(generators__device="cuda:0", launch__renderers="{}", train__accum_freq="4")
    assert "renderer sd15 10.5 + renderer sd2 10.9" in budget(together, "2xA100-80G")


def test_an_evaluator_on_a_gpu_has_its_activations_planned():
    """Measured on a device that computes nothing, in tests/null_gpu/test_evaluator.py."""
    on_a_gpu = node(evaluate__device="cuda:0")
    assert "evaluator" not in budget(node(), "8xA100-80G")
    told = budget(on_a_gpu, "8xA100-80G")
    assert "evaluator" in told and "activations" in told.partition("evaluator")[2].partition("captioner")[0]


def test_the_main_memory_that_renderers_load_through_is_told():
    """Every part once, and the largest twice: 6.28 GiB and the transformer's 4.60."""
    config = load_config("micro", {"generators.recipes": "sd35_medium", "generators.device": "cuda:0"})
    assert loading_gib(config, "sd35_medium") == pytest.approx(6.28 + 4.60, abs=0.01)
    told = budget(config, "1xA100-80G")
    assert "main memory: 1 renderer loading weights at once: up to 11 GiB, pages of their files included" in told
