"""TensorRT's runtime up to the driver call: names, shapes, types, addresses, sizes, memory, on a strict stand-in."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorrt_cpu_runtime import Context, Driver, Engine, Network, Runtime
from torch import Tensor

from polygen_stream.base.errors import PolygenError
from polygen_stream.engine.backends import tensorrt_runtime
from polygen_stream.engine.backends.tensorrt_runtime import TensorRtSession, bind, open_plans
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.profile import Profile
from polygen_stream.engine.runtime import install
from polygen_stream.engine.source import LoadedSource
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import load_recipe

PROFILE = Profile(
    rows=(2, 8, 16),
    shapes={"sample": (4, 8, 8), "timestep": (), "encoder_hidden_states": (32, 96)},
    dtypes={"sample": "float16", "timestep": "float32", "encoder_hidden_states": "float16"},
)


@pytest.fixture(autouse=True)
def no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU has no streams; the stand-in asks for none."""
    monkeypatch.setattr(tensorrt_runtime, "current_stream", lambda: 0)


def call(rows: int = 4, **changes: Tensor) -> dict[str, Tensor]:
    return {
        "sample": torch.randn(rows, 4, 8, 8),
        "timestep": torch.full((rows,), 999.0),
        "encoder_hidden_states": torch.randn(rows, 32, 96),
    } | changes


def scaled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Depends on every input, row by row."""
    text = inputs["encoder_hidden_states"].float().mean(dim=(1, 2))
    factor = inputs["timestep"] / 100 + text
    return {"noise": inputs["sample"] * factor.half()[:, None, None, None]}


def opened(folder: Path, **networks: Network) -> dict[str, TensorRtSession]:
    for name in networks:
        (folder / f"{name}.plan").write_text(name)
    engines = {name: (folder / f"{name}.plan", network.profile) for name, network in networks.items()}
    return open_plans(Driver(networks), engines, cuda_graphs=False, device="cpu")


def unet(**changes: object) -> Network:
    return Network(**{"profile": PROFILE, "outputs": scaled, "forms": {"noise": ("float16", (4, 8, 8))}} | changes)


class TestBind:
    def test_bindings_have_the_engines_names_types_and_the_calls_shapes(self):
        bound = {binding.name: binding for binding in bind(call(), PROFILE)}
        assert {name: binding.shape for name, binding in bound.items()} == {
            "sample": (4, 4, 8, 8), "timestep": (4,), "encoder_hidden_states": (4, 32, 96)
        }  # fmt: skip
        assert {name: str(binding.tensor.dtype) for name, binding in bound.items()} == {
            "sample": "torch.float16", "timestep": "torch.float32", "encoder_hidden_states": "torch.float16"
        }  # fmt: skip

    def test_bound_tensors_are_contiguous(self):
        strided = torch.randn(4, 8, 8, 4).permute(0, 3, 1, 2)
        (sample,) = (binding for binding in bind(call(sample=strided), PROFILE) if binding.name == "sample")
        assert sample.tensor.is_contiguous()
        assert torch.equal(sample.tensor, strided.half())

    @pytest.mark.parametrize("rows", [1, 17])
    def test_rows_outside_the_profile_are_refused_with_both_numbers(self, rows: int):
        with pytest.raises(PolygenError, match=rf"sample: the engine takes 2 to 16 rows .* gives {rows} of"):
            bind(call(rows), PROFILE)

    def test_another_picture_size_is_refused(self):
        with pytest.raises(PolygenError, match=r"of \[4, 8, 8\], the pipeline gives 4 of \[4, 16, 16\]"):
            bind(call(sample=torch.randn(4, 4, 16, 16)), PROFILE)

    def test_a_missing_and_an_unknown_input_are_named(self):
        inputs = call()
        inputs["time_ids"] = inputs.pop("timestep")
        with pytest.raises(PolygenError, match=r"takes .*'timestep'.*gives .*'time_ids'"):
            bind(inputs, PROFILE)


class TestSession:
    @pytest.mark.parametrize(
        ("rows", "runs"), [(1, [2]), (2, [2]), (9, [9]), (16, [16]), (17, [16, 2]), (40, [16, 16, 8])]
    )
    def test_any_number_of_rows_is_run_in_the_profiles_sizes(self, tmp_path: Path, rows: int, runs: list[int]):
        network, inputs = unet(), call(rows)
        (session,) = opened(tmp_path, unet=network).values()
        got = session.run(inputs)["noise"]
        cast = {name: tensor.to(getattr(torch, PROFILE.dtypes[name])) for name, tensor in inputs.items()}
        assert torch.equal(got, scaled(cast)["noise"])
        assert network.contexts[0].rows == runs

    def test_results_of_a_call_outlive_the_next(self, tmp_path: Path):
        (session,) = opened(tmp_path, unet=unet()).values()
        first = session.run(call())["noise"]
        kept = first.clone()
        session.run(call())
        assert torch.equal(first, kept)

    def test_the_engines_of_a_generator_share_one_block_as_large_as_the_largest_needs(self, tmp_path: Path):
        networks = {"unet": unet(scratch=4096), "vae": unet(scratch=100_000), "text_encoder": unet(scratch=512)}
        sessions = opened(tmp_path, **networks)
        blocks = {network.contexts[0].memory for network in networks.values()}
        assert len(blocks) == 1
        assert blocks.pop()[1] == 100_000
        for session in sessions.values():  # each run writes over what it asked for
            inputs = call()
            cast = {name: tensor.to(getattr(torch, PROFILE.dtypes[name])) for name, tensor in inputs.items()}
            assert torch.equal(session.run(inputs)["noise"], scaled(cast)["noise"])

    def test_a_plan_that_the_library_does_not_load_is_named(self, tmp_path: Path):
        (tmp_path / "unet.plan").write_text("of another version")
        with pytest.raises(PolygenError, match=r"unet\.plan does not load here: rebuild it"):
            open_plans(Driver({}), {"unet": (tmp_path / "unet.plan", PROFILE)}, cuda_graphs=False, device="cpu")

    def test_what_the_driver_refuses_is_an_error_and_not_a_picture(self, tmp_path: Path):
        narrower = unet(profile=Profile((2, 4, 8), PROFILE.shapes, PROFILE.dtypes))
        (tmp_path / "unet.plan").write_text("unet")  # a plan that takes fewer rows than its manifest says
        engines = {"unet": (tmp_path / "unet.plan", PROFILE)}
        (session,) = open_plans(Driver({"unet": narrower}), engines, cuda_graphs=False, device="cpu").values()
        with pytest.raises(PolygenError, match="TensorRT refused the shape of sample"):
            session.run(call(16))


@pytest.mark.parametrize("name", ["micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo"])
def test_a_pipeline_renders_through_the_driver_what_it_renders_eager(name: str, tmp_path: Path):
    recipe = load_recipe(name)
    recipe = recipe.model_copy(update={"sampling": {**recipe.sampling, "num_inference_steps": 2}})
    source = LoadedSource(recipe, tmp_path, lambda line: None, "cpu")
    networks = {}
    for part in recipe.engine.parts:
        module, inputs = source.module(part), source.calls(part)[0]
        with torch.inference_mode():
            results = part_of(module).call(module, inputs)
        forms = {key: (str(each.dtype).removeprefix("torch."), tuple(each.shape[1:])) for key, each in results.items()}
        compute = lambda inputs, module=module: part_of(module).call(module, inputs)  # noqa: E731
        networks[part] = Network(source.profile(part, bf16=False), compute, forms)
    eager, compiled = load_generator(recipe), load_generator(recipe)
    install(compiled, opened(tmp_path, **networks))
    captions, seeds = ["a red car", "a blue ball on a beach", "a dog"], [1, 2, 3]
    assert np.array_equal(eager.render(captions, seeds), compiled.render(captions, seeds))
    assert all(network.contexts[0].rows for network in networks.values())


@pytest.mark.extended  # make test-all installs TensorRT-RTX
@pytest.mark.parametrize(
    ("stand_in", "real"), [(Engine, "ICudaEngine"), (Context, "IExecutionContext"), (Runtime, "Runtime")]
)
def test_the_stand_in_has_the_librarys_names_and_arguments(stand_in: type, real: str):
    trt = pytest.importorskip("tensorrt_rtx")
    for name, mine in vars(stand_in).items():
        if name.startswith("_"):
            continue
        theirs = getattr(getattr(trt, real), name)
        if not isinstance(mine, property):
            arguments = list(inspect.signature(mine).parameters)[1:]
            overloads = re.findall(rf"{name}\((.*)\) ->", theirs.__doc__)
            assert any(re.findall(r"(?:^|, )(\w+): ", each)[1:] == arguments for each in overloads), theirs.__doc__


@pytest.mark.extended  # make test-all installs TensorRT-RTX
def test_the_stand_ins_types_and_modes_are_the_librarys():
    trt = pytest.importorskip("tensorrt_rtx")
    for kind in ("DataType", "TensorIOMode", "ExecutionContextAllocationStrategy"):
        for member in getattr(Driver, kind):
            assert hasattr(getattr(trt, kind), member.name)
