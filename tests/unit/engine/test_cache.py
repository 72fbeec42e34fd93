"""The engine cache: what its keys tell apart, and what is left after a build was killed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.base.errors import UserError
from polygen_stream.engine import key as key_module
from polygen_stream.engine.backends import base as base_module
from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends import tensorrt as tensorrt_module
from polygen_stream.engine.backends.gpu import LocalGpu
from polygen_stream.engine.backends.tensorrt import TENSORRT, TensorRt
from polygen_stream.engine.cache import CacheError, EngineCache
from polygen_stream.engine.key import EngineKey, engine_key, recipe_hash, weights_hash
from polygen_stream.engine.profile import Profile
from polygen_stream.generators.recipe import TensorRtSpec, load_recipe

FIELDS = [field.name for field in dataclasses.fields(EngineKey)]


PROFILE = Profile((1, 4, 8), {"sample": (4, 8, 8)}, {"sample": "float32"})


def key(**changes: str) -> EngineKey:
    values = {"generator": "micro/sd15", "backend": "onnxruntime"}
    return EngineKey(**{name: f"some {name}" for name in FIELDS} | values | changes)


def put(cache: EngineCache, of: EngineKey, content: bytes = b"plan") -> None:
    """What a build does with a cache."""
    with cache.building(of) as staging:
        (staging / "unet.onnx").write_bytes(content)
        (staging / "unet.data").write_bytes(b"weights")
        (staging / "unet_2.onnx").write_bytes(b"not the unet's")
        cache.publish(of, staging, {"unet": PROFILE}, ".onnx", {"seconds": {}})


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def test_what_was_published_is_found_and_verifies(cache: EngineCache):
    put(cache, key())
    entry = cache.find(key())
    entry.verify()
    assert entry.engine("unet").read_bytes() == b"plan"
    assert entry.nbytes == len(b"plan") + len(b"weights")
    assert entry.profile("unet") == PROFILE
    assert list((cache.root / "staging").iterdir()) == []


@pytest.mark.parametrize("field", FIELDS)
def test_changing_any_key_field_misses_the_cache(cache: EngineCache, field: str):
    put(cache, key())
    assert cache.find(key(**{field: "another"})) is None


@pytest.mark.parametrize("field", [name for name in FIELDS if name not in ("generator", "backend")])
def test_a_miss_names_the_field_its_two_values_and_the_command(cache: EngineCache, field: str):
    put(cache, key())
    told = cache.explain_miss(key(**{field: "another"}))
    assert f"{field} some {field} -> another" in told
    assert "polygen-stream build-engines micro/sd15 --backend onnxruntime" in told


def test_a_miss_in_an_empty_cache_names_the_command(cache: EngineCache):
    told = cache.explain_miss(key())
    assert told.startswith("no onnxruntime engine of micro/sd15")
    assert told.endswith("polygen-stream build-engines micro/sd15 --backend onnxruntime")


def test_an_engine_of_other_weights_is_found_if_it_is_intact_and_differs_in_nothing_else(cache: EngineCache):
    put(cache, key(weights="old"))
    put(cache, key(recipe="other", weights="old"))
    assert cache.with_other_weights(key(weights="new")).key == key(weights="old")
    assert cache.with_other_weights(key(weights="new", target="other")) is None
    assert cache.with_other_weights(key(weights="old")) is None  # that one itself
    (cache.folder(key(weights="old")) / "unet.onnx").write_bytes(b"evil")
    assert cache.with_other_weights(key(weights="new")) is None


def test_an_entry_moved_to_another_keys_place_is_not_found(cache: EngineCache):
    put(cache, key())
    other = key(weights="other")
    cache.folder(key()).rename(cache.folder(other))
    assert cache.find(other) is None


@pytest.mark.parametrize("name", ["unet.onnx", "unet.data"])
def test_a_tampered_or_missing_file_is_refused(cache: EngineCache, name: str):
    put(cache, key())
    entry = cache.find(key())
    (entry.folder / name).write_bytes(b"evil")
    with pytest.raises(CacheError, match=rf"{name} has SHA-256 .* built was .* --force"):
        entry.verify()
    (entry.folder / name).unlink()
    with pytest.raises(CacheError, match=f"{name} is missing"):
        entry.verify()


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"key": {}}', '{"key": {"generator": "x"}, "parts": {}}'])
def test_an_unreadable_manifest_is_no_entry(cache: EngineCache, manifest: str):
    put(cache, key())
    (cache.folder(key()) / "manifest.json").write_text(manifest)
    assert cache.find(key()) is None
    assert cache.entries() == []


def test_a_build_replaces_the_entry_of_its_key(cache: EngineCache):
    put(cache, key(), b"old")
    put(cache, key(), b"new")
    assert cache.find(key()).engine("unet").read_bytes() == b"new"
    assert len(cache.entries()) == 1


def test_a_build_that_fails_leaves_nothing(cache: EngineCache):
    with pytest.raises(RuntimeError), cache.building(key()) as staging:
        (staging / "unet.onnx").write_bytes(b"half")
        raise RuntimeError
    assert cache.find(key()) is None
    assert list((cache.root / "staging").iterdir()) == []


def test_collect_removes_what_is_not_kept_and_what_nobody_builds(cache: EngineCache):
    put(cache, key())
    put(cache, key(weights="old"))
    (cache.root / "staging" / "abandoned-1-x").mkdir()
    with cache.building(key(weights="current")) as current:
        removed = cache.collect({key().digest})
        assert current.is_dir()
    assert {path.name for path in removed} == {"abandoned-1-x", cache.folder(key(weights="old")).name}
    assert [entry.key for entry in cache.entries()] == [key()]


KILLED_BUILDS = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cache import key, put
from polygen_stream.engine.cache import EngineCache

cache = EngineCache(Path(sys.argv[2]))
kills = 0
for last in range(1000):
    child = os.fork()
    if child == 0:
        seen = 0
        def hook(event, arguments):
            global seen
            if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
                seen += 1
                if seen > last:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        put(cache, key(), b"new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    entry = cache.find(key())
    if entry is not None:
        entry.verify()
        assert entry.engine("unet").read_bytes() in (b"old", b"new")
    if status == 0:
        break
    kills += 1
    put(cache, key(), b"old")  # the killed build's lock is free, and its remains are in nobody's way
print(kills)
"""


def test_a_build_killed_at_any_file_operation_leaves_the_cache_valid(tmp_path: Path):
    command = [sys.executable, "-c", KILLED_BUILDS, str(Path(__file__).parent), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8  # opening, renaming and removing files: each of them was a place to die
    assert EngineCache(tmp_path / "cache").find(key()).engine("unet").read_bytes() == b"new"


CONCURRENT_BUILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cache import PROFILE, key
from polygen_stream.engine.cache import EngineCache

cache = EngineCache(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
with cache.building(key()) as staging:
    if cache.find(key()) is None:
        time.sleep(0.2)
        (staging / "unet.onnx").write_bytes(b"plan")
        cache.publish(key(), staging, {"unet": PROFILE}, ".onnx", {})
        print("built")
"""


def test_two_builds_of_one_key_make_one_engine(tmp_path: Path):
    command = [sys.executable, "-c", CONCURRENT_BUILD, str(Path(__file__).parent), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for build in both:
        assert build.stdout.readline() == "ready\n"
    for build in both:
        build.stdin.write("go\n")
        build.stdin.flush()
    assert sorted(build.communicate()[0] for build in both) == ["", "built\n"]
    EngineCache(tmp_path / "cache").find(key()).verify()


def test_a_lock_dies_with_its_holder(tmp_path: Path):
    command = [sys.executable, "-c", CONCURRENT_BUILD, str(Path(__file__).parent), str(tmp_path / "cache")]
    held = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    held.stdout.readline()
    held.stdin.write("go\n")
    held.stdin.flush()
    staging = tmp_path / "cache" / "staging"
    while held.poll() is None and not (staging.is_dir() and any(staging.iterdir())):
        pass
    os.kill(held.pid, signal.SIGKILL)
    held.communicate()
    put(EngineCache(tmp_path / "cache"), key())  # would wait for ever for a lock file that outlived its holder


class TestKey:
    """The key changes with what it is made of."""

    def test_it_reads_weights_by_content_not_by_place(self, tmp_path: Path):
        copy = tmp_path / "elsewhere"
        shutil.copytree(SHIPPED_WEIGHTS / "sd15", copy)
        parts = ("unet", "vae")
        assert weights_hash(copy, parts) == weights_hash(SHIPPED_WEIGHTS / "sd15", parts)
        for file in ("unet/diffusion_pytorch_model.safetensors", "vae/config.json"):
            before = weights_hash(copy, parts)
            content = bytearray((copy / file).read_bytes())
            content[-1] ^= 1
            (copy / file).write_bytes(content)
            assert weights_hash(copy, parts) != before, file

    def test_a_part_without_weights_is_named(self, tmp_path: Path):
        with pytest.raises(UserError, match="no weights of unet"):
            weights_hash(tmp_path, ("unet",))

    def test_sampling_size_and_tolerance_count_and_the_licence_does_not(self):
        recipe = load_recipe("micro/sd15")
        hashes = {
            recipe_hash(recipe),
            recipe_hash(recipe.model_copy(update={"sampling": {**recipe.sampling, "num_inference_steps": 9}})),
            recipe_hash(recipe.model_copy(update={"width": 64})),
            recipe_hash(recipe.model_copy(update={"dtype": "bfloat16"})),
            recipe_hash(recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"part_tolerance": 0.1})})),
        }
        assert len(hashes) == 5
        assert recipe_hash(recipe.model_copy(update={"license": "MIT", "weights": "/elsewhere"})) == recipe_hash(recipe)

    def test_flags_and_target_of_the_backend_count(self):
        pytest.importorskip("onnxruntime")
        backend, recipe = get_backend("onnxruntime"), load_recipe("micro/sd15")

        class Other(type(backend)):
            def flags(self) -> str:
                return "other"

            def target(self) -> str:
                return "another processor"

        mine, other = (engine_key(recipe, "onnxruntime", each) for each in (backend, Other()))
        assert [text.split()[0] for text in mine.differences(other)] == ["target", "flags"]

    @pytest.mark.parametrize(
        "field", ["backend_version", "torch", "diffusers", "transformers", "onnx", "onnxscript", "opset", "format"]
    )
    def test_another_version_of_what_exports_or_compiles_misses(self, field: str, monkeypatch: pytest.MonkeyPatch):
        pytest.importorskip("onnxruntime")
        backend, recipe = get_backend("onnxruntime"), load_recipe("micro/sd15")
        before = engine_key(recipe, "onnxruntime", backend)
        version, package = key_module.package_version, {"backend_version": "onnxruntime"}.get(field, field)
        another = lambda name: "99.0" if name == package else version(name)  # noqa: E731
        monkeypatch.setattr(key_module, "package_version", another)
        monkeypatch.setattr(base_module, "package_version", another)
        if field in ("opset", "format"):
            monkeypatch.setattr(key_module, field.upper(), "99")
        after = engine_key(recipe, "onnxruntime", backend)
        assert [text.split()[0] for text in before.differences(after)] == [field]
        assert before.digest != after.digest

    @pytest.mark.parametrize("change", [{"name": "NVIDIA L4"}, {"capability": "SM89"}, {"driver": "600.1"}])
    def test_another_gpu_or_driver_misses(self, change: dict[str, str], monkeypatch: pytest.MonkeyPatch):
        here = LocalGpu("NVIDIA A100-SXM4-80GB", "SM80", "580.95")
        backend, recipe = TensorRt(TENSORRT), load_recipe("micro/sd15")
        monkeypatch.setattr(key_module, "installed_version", lambda backend: "11.4")
        keys = []
        for found in (here, dataclasses.replace(here, **change)):
            monkeypatch.setattr(tensorrt_module, "gpu", lambda found=found: found)
            keys.append(engine_key(recipe, "tensorrt", backend))
        assert [text.split()[0] for text in keys[0].differences(keys[1])] == ["target"]

    @pytest.mark.parametrize(
        "change",
        [{"batch": (1, 8, 64)}, {"parts": ("unet",)}, {"bf16": ()}, {"float32_attention": ("unet",)},
         {"tensorrt": TensorRtSpec(optimization_level=5)}, {"tensorrt": TensorRtSpec(refit=True)}],
    )  # fmt: skip
    def test_what_a_recipe_asks_of_the_build_counts(self, change: dict):
        recipe = load_recipe("micro/sd15")
        other = recipe.model_copy(update={"engine": recipe.engine.model_copy(update=change)})
        assert recipe_hash(other) != recipe_hash(recipe)

    def test_how_a_plan_is_launched_does_not_count(self):
        recipe = load_recipe("micro/sd15")
        graphs = recipe.engine.model_copy(update={"tensorrt": TensorRtSpec(cuda_graphs=True)})
        assert recipe_hash(recipe.model_copy(update={"engine": graphs})) == recipe_hash(recipe)

    def test_a_recipe_without_an_engine_table_is_refused(self):
        recipe = load_recipe("micro/sd15").model_copy(update={"engine": None})
        with pytest.raises(UserError, match=r"engines/micro/sd15.toml has no \[engine\] table"):
            engine_key(recipe, "onnxruntime", get_backend("onnxruntime"))

    def test_a_backend_that_is_not_installed_names_the_extra(self):
        class Absent(type(get_backend("onnxruntime"))):
            package = "no-such-distribution"

        with pytest.raises(UserError, match=r"no-such-distribution is not installed: pip install .*onnxruntime"):
            engine_key(load_recipe("micro/sd15"), "onnxruntime", Absent())
