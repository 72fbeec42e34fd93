"""Full-size repositories as they are published, in the hub's cache, through `from_pretrained`."""

from __future__ import annotations

import null_gpu
import pytest

from polygen_stream.capacity.memory import loading_gib
from polygen_stream.config import load_config
from polygen_stream.generators.recipe import load_recipe

pytestmark = pytest.mark.rehearsal


@pytest.mark.parametrize("name", ["sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium"])
def test_a_renderer_loads_every_weight_of_a_published_repository(name: str, record, tmp_path):
    recipe = load_recipe(name)
    figures = null_gpu.run("repository", name, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert figures["lacks"] is None
    assert figures["made_up"] == [], "weights that the files have under other names"
    assert figures["parts"] == {
        part: [f"torch.{recipe.dtype_of(part)}", "cuda:0"] for part in recipe.parameters if part not in recipe.without
    }
    assert figures["shape"] == [2, 256, 256, 3]
    assert figures["files_gib"] * null_gpu.GIB / 1e9 == pytest.approx(recipe.download_gb, rel=0.1)
    assert figures["disk_mib"] < 50
    planned = loading_gib(load_config("micro", {"generators.recipes": name}), name)
    record(
        f"{name}: main memory of a renderer that has loaded {figures['files_gib']:.1f} GiB, GiB",
        f"{figures['host_gib']:.1f}",
        f"at most {planned:.1f}, and 1.0 without weights",
    )
    assert figures["host_gib"] < planned + 1.1  # torch, its CUDA libraries and diffusers
