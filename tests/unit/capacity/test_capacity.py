"""Plans of a run: who renders where, what that takes of a GPU, what is missing, and what is refused with numbers."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from polygen_stream.assets.resources import config_path
from polygen_stream.base.errors import UserError
from polygen_stream.capacity.allocation import allocate
from polygen_stream.capacity.batch_view import proposed_batch
from polygen_stream.capacity.budget_view import show_budget
from polygen_stream.capacity.gpus import GIB, GpuSpec, local_gpus, parse_gpus
from polygen_stream.capacity.memory import (
    gpu_needs,
    largest_batch,
    loading_gib,
    problems,
    renderer_items,
    trainer_items,
)
from polygen_stream.capacity.model_size import model_size
from polygen_stream.capacity.proposal import arranged, demand_of, propose, remedies
from polygen_stream.capacity.proposal_view import show_proposal
from polygen_stream.capacity.rates import find_rates
from polygen_stream.capacity.readiness import engine_builds, missing
from polygen_stream.config import RunConfig, load_config
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.key import EngineKey, recipe_hash
from polygen_stream.engine.profile import Profile
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import build_process_plan

NODE = config_path("node_8gpu")
PAPER = {"sd15": 1.1, "sd2": 2.2, "sana": 3.8, "sdxl_turbo": 22.0}


def node(**changes: str) -> RunConfig:
    return load_config(NODE, {key.replace("__", "."): value for key, value in changes.items()})


def budget(config: RunConfig, gpus: str) -> str:
    console = Console(file=io.StringIO(), width=300)
    try:
        show_budget(config, build_process_plan(config, there=False), parse_gpus(gpus), console)
    except UserError as problem:
        return f"{console.file.getvalue()}\nrefused: {problem}"
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("text", "names", "gib"),
    [
        ("8xH100-80G", ["H100-80G"] * 8, 80), ("2", ["A100-80G"] * 2, 80), ("A100-40G", ["A100-40G"], 40),
        ("1xRTX4090", ["RTX4090-24G"], 24), ("1xA100-80G,1xH100-80G", ["A100-80G", "H100-80G"], 80),
    ],
)  # fmt: skip
def test_gpus_in_words(text, names, gib):
    gpus = parse_gpus(text)
    assert [gpu.name for gpu in gpus] == names and [gpu.index for gpu in gpus] == list(range(len(names)))
    assert {gpu.nbytes for gpu in gpus} == {gib * GIB}


@pytest.mark.parametrize("text", ["0xH100-80G", "eight", "8x", "H100:8", ""])
def test_other_words_for_gpus_are_refused(text):
    with pytest.raises(UserError, match="--gpus"):
        parse_gpus(text)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 12, 40])
def test_an_allocation_is_close_to_the_best_that_any_division_could_be(count):
    found = allocate(PAPER, range(10, 10 + count))
    best = count / sum(1 / rate for rate in PAPER.values())
    assert best >= found.per_s > 0.95 * best - 1e-9
    for gpu in range(10, 10 + count):
        assert sum(share for (_, on), share in found.shares.items() if on == gpu) <= 1 + 1e-9
    for name, rate in PAPER.items():
        assert rate * sum(share for (each, _), share in found.shares.items() if each == name) == pytest.approx(
            found.per_s
        )
        assert len(found.gpus[name]) == len(set(found.gpus[name])) >= 1


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


def test_a_ring_that_is_too_small_is_raised_to_batches_or_to_an_hour_of_rendering():
    config = node(ring__slots="20480")
    few, many = (propose(config, find_rates(config), gpus).ring for gpus in (8, 64))
    assert (few.own, few.slots) == (False, 16 * 4096) and few.slots == few.for_batches
    assert not many.own and many.slots >= many.for_rendering > many.for_batches


def test_the_largest_batch_is_that_of_the_memory():
    config = node()
    plan, gpus = build_process_plan(config, there=False), parse_gpus("8xA100-80G")

    def problems_with(batch: int) -> list[str]:
        larger = node(generators__batch=str(batch))
        return problems(gpu_needs(larger, build_process_plan(larger, there=False), gpus), gpus, False)

    largest = largest_batch(config, plan, gpus)
    assert largest == 16 and problems_with(largest) == [] and problems_with(2 * largest)
    assert largest_batch(config, plan, parse_gpus("8xH200-141G")) == 32
    assert largest_batch(config, plan, parse_gpus("8xA10-24G")) == 0
    assert largest_batch(RunConfig(), build_process_plan(RunConfig()), gpus) is None
    told = budget(config, "8xA100-80G")
    assert "generators.batch = 8; by memory up to 16, a power of two, fit every GPU" in told
    assert "built for fewer (sd15 8, sd2 8, sana 8, sdxl_turbo 8)" in told


def settings(config: RunConfig, gpus: int) -> dict[str, str]:
    """What `plan` says of a config's keys."""
    console = Console(file=io.StringIO(), width=300)
    show_proposal(config, find_rates(config), propose(config, find_rates(config), gpus), console)
    told = console.file.getvalue().partition("in the config:\n")[2].partition("\n\n")[0]
    return dict(line.strip().split(" = ", 1) for line in told.splitlines())


def number(setting: str) -> int:
    return int(setting.split()[0])


@pytest.mark.parametrize(
    ("preset", "gpus"), [("paper", 1), ("paper", 2), ("paper", 4), ("paper", 8), ("single_gpu", 1)]
)
def test_a_plan_says_the_batch_that_fits_its_own_division(preset: str, gpus: int):
    config = load_config(preset)
    said = settings(config, gpus)["generators.batch"]
    on_gpus, cards = arranged(config, propose(config, find_rates(config), gpus)), parse_gpus(f"{gpus}xA100-80G")
    largest = largest_batch(on_gpus, build_process_plan(on_gpus, there=False), cards)
    assert largest and largest >= number(said) > 0
    engines = on_gpus.generators.backend == "tensorrt"
    assert engines == (gpus >= 4 and preset == "paper")
    assert number(said) == (8 if engines else largest)
    assert (f"by memory of A100-80G up to {largest}" in said) == (number(said) < largest)


@pytest.mark.parametrize("name", ["sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium"])
def test_a_plan_says_a_batch_that_the_shipped_engines_take_and_that_fits(name: str):
    batch, engine = 0, load_recipe(name).compiled
    for gpus in ("4xA100-80G", "4xH100-80G"):
        config = node(generators__recipes=name, launch__renderers=f'{{"{name}" = ["cuda:2", "cuda:3"]}}')
        plan, cards = build_process_plan(config, there=False), parse_gpus(gpus)
        batch, _ = proposed_batch(config, plan, cards, gpus) or (0, "")
        assert engine.batch[0] <= batch <= engine.batch[2], gpus
        usual = config.model_copy(update={"generators": config.generators.model_copy(update={"batch": batch})})
        assert problems(gpu_needs(usual, plan, cards), cards, False) == []


@pytest.mark.parametrize("preset", ["paper", "node_8gpu"])
def test_a_shipped_config_has_the_settings_of_its_plan(preset: str):
    config, said = load_config(preset), settings(load_config(preset), 8)
    assert number(said["generators.batch"]) == config.generators.batch
    assert number(said["ring.slots"]) == config.ring.slots
    assert number(said["train.ranks"]) == config.train.ranks
    renderers = {name: list(devices) for name, devices in config.launch.renderers.items()}
    assert {key.split('"')[1]: json.loads(value) for key, value in said.items() if "renderers" in key} == renderers
    assert "captions.device" not in said and "launch.time_slice_s" not in said


def test_a_plan_whose_memory_is_too_small_for_the_engines_says_so():
    config = node(launch__renderers='{"sdxl_turbo" = ["cuda:0"]}', generators__recipes="sdxl_turbo")
    config = config.model_copy(update={"train": config.train.model_copy(update={"device": "cuda:2"})})
    gpus = [GpuSpec(0, "A", 20 * GIB), GpuSpec(1, "B", 80 * GIB), GpuSpec(2, "B", 80 * GIB)]
    batch, why = proposed_batch(config, build_process_plan(config, there=False), gpus, "A") or (0, "")
    assert 0 < batch < 8 and "built for more (sdxl_turbo 8)" in why


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


@pytest.mark.parametrize(("model", "millions"), [("ViT-B-32", 151.3), ("ViT-B-16", 149.6), ("ViT-L-14", 427.6)])
def test_towers_have_the_published_numbers_of_parameters(model, millions):
    assert model_size(model).parameters / 1e6 == pytest.approx(millions, rel=0.01)


def test_a_model_of_another_kind_is_unknown_rather_than_guessed():
    assert model_size("RN50") is None and model_size("micro") is None


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


@pytest.mark.parametrize(
    ("mask", "places"), [(None, "0123"), ("", ""), ("-1", ""), ("2,1", "21"), ("GPU-8f1c", "0123"), ("7", "0123")]
)
def test_the_gpus_of_this_machine_are_those_that_may_be_seen(
    mask: str | None, places: str, monkeypatch: pytest.MonkeyPatch
):
    installed = [("NVIDIA A10", f"{23000 + place}", "8.6") for place in range(4)]
    monkeypatch.setattr("polygen_stream.capacity.gpus.query_gpus", lambda *fields: installed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if mask is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    found = local_gpus()
    assert [(gpu.index, gpu.nbytes // 2**20 - 23000, gpu.visible_as) for gpu in found] == [
        (index, int(place), place) for index, place in enumerate(places)
    ]
    assert all((gpu.name, gpu.capability) == ("NVIDIA A10", "SM86") for gpu in found)


def test_a_gpu_whose_memory_nvidia_smi_does_not_know_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polygen_stream.capacity.gpus.query_gpus", lambda *fields: [("GB10", "[N/A]", "12.1")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def without_cuda(index: int) -> object:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr("torch.cuda.get_device_properties", without_cuda)
    [gpu] = local_gpus()
    assert (gpu.name, gpu.nbytes) == ("GB10", 0)


def test_nothing_is_missing_for_the_micro_preset(tmp_path: Path):
    config = RunConfig()
    assert missing(config, ["micro"], build_process_plan(config), [GpuSpec(0, "H100-80G", 80 * GIB)]) == []
    assert missing(config, ["micro"], build_process_plan(config), []) == []


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
