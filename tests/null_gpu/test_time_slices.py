"""One GPU for everything: what a process leaves on it when its time slice ends."""

from __future__ import annotations

import null_gpu
import pytest

from polygen_stream.generators.recipe import load_recipe

pytestmark = pytest.mark.rehearsal
MIB = 2**20


def test_a_renderer_leaves_less_than_100_mib_behind(record):
    recipe = load_recipe("sd15")
    weights = sum(recipe.bytes_of(part) for part in recipe.parameters)
    figures = null_gpu.run("time_slice", "sd15")
    assert figures["before"] == 0, "a renderer takes memory before it has the device"
    for each in figures["slices"]:
        assert each["bytes_in"] > 0.98 * weights and each["held"] > 0.98 * weights
        assert each["left"] < 100 * MIB
        assert each["copies_in"] == 1 and each["pageable_copies_in"] == 0 and each["waits"] == 0
        assert each["copies_out"] == 0, "weights that no one changes are copied back"
    first, second = figures["slices"]
    assert second["left"] == first["left"], "what is left grows"
    record("sd15: left on the device after a time slice, MiB", f"{first['left'] / MIB:.0f}", "less than 100")
    record("sd15: copies to the device at the start of a slice", f"{first['copies_in']}, {first['waits']} waited for")
