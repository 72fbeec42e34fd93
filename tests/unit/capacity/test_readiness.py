"""What is missing before a run can start: engines for every type of GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from gpu_plans import node

from polygen_stream.capacity.gpus import GIB, GpuSpec, parse_gpus
from polygen_stream.capacity.readiness import engine_builds, missing
from polygen_stream.config import RunConfig, load_config
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.key import EngineKey, recipe_hash
from polygen_stream.engine.profile import Profile
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import build_process_plan


def test_engines_are_built_once_for_every_type_of_gpu():
    config = node()
    plan = build_process_plan(config, there=False)
    mixed = parse_gpus("4xA100-80G,4xH100-80G")
    builds = [(name, indices[0], [r.name for r in recipes]) for name, indices, recipes in
              engine_builds(config, plan, mixed)]  # fmt: skip
    assert builds == [("A100-80G", 2, ["sd15"]), ("H100-80G", 4, ["sd15", "sd2", "sana", "sdxl_turbo"])]
    commands = [str(each) for each in missing(config, ["c.toml"], plan, mixed) if "engines" in each.what]
    assert commands == [
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=2 polygen-stream build-engines sd15 --backend tensorrt",
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=4 polygen-stream build-engines sd15 sd2 sana sdxl_turbo "
        "--backend tensorrt",
    ]


@pytest.mark.parametrize(
    ("backend", "built_for", "fits", "another"),
    [
        ("tensorrt-rtx", "SM89", ("NVIDIA L4", "SM89"), ("NVIDIA L4", "SM80")),
        ("tensorrt", "NVIDIA L4 SM89 driver 580.95", ("NVIDIA L4", "SM89"), ("NVIDIA L40S", "SM89")),
    ],
)
def test_engines_are_there_for_the_gpus_that_they_were_built_for(
    backend: str, built_for: str, fits: tuple, another: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLYGEN_STREAM_CACHE", str(tmp_path))
    recipe, cache = load_recipe("micro/sd15"), EngineCache(tmp_path)
    known = {"generator": recipe.name, "backend": backend, "recipe": recipe_hash(recipe), "target": built_for}
    key = EngineKey(**{field.name: known.get(field.name, "any") for field in dataclasses.fields(EngineKey)})
    with cache.building(key) as staging:
        (staging / "unet.plan").write_bytes(b"plan")
        cache.publish(key, staging, {"unet": Profile((1, 1, 1), {"x": (1,)}, {"x": "float32"})}, ".plan", {})
    config = load_config(
        None, {"generators.recipes": recipe.name, "generators.backend": backend, "generators.device": "cuda:0"}
    )

    def lacking(name: str, capability: str) -> list[str]:
        gpu = GpuSpec(0, name, 24 * GIB, capability, "3")
        return [str(each) for each in missing(config, ["micro"], build_process_plan(config), [gpu])]

    assert lacking(*fits) == []
    assert lacking(*another) == [
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=3 polygen-stream build-engines micro/sd15 "
        f"--backend {backend}"
    ]


def test_nothing_is_missing_for_the_micro_preset(tmp_path: Path):
    config = RunConfig()
    assert missing(config, ["micro"], build_process_plan(config), [GpuSpec(0, "H100-80G", 80 * GIB)]) == []
    assert missing(config, ["micro"], build_process_plan(config), []) == []
