"""TensorRT's timing cache as a file: what builds add to it, and what becomes of a file that is no use."""

from __future__ import annotations

from pathlib import Path

import pytest

from polygen_stream.engine.backends.timing_cache import timing_cache


class Measurements:
    """ITimingCache as far as its documentation goes: kernels by name; another header does not combine."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def combine(self, input_cache: Measurements, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.names |= input_cache.names
        return True

    def serialize(self) -> bytes:
        return "\n".join(["timings", *sorted(self.names)]).encode()


class Config:
    """IBuilderConfig, of which a build measures what it does not know."""

    def __init__(self) -> None:
        self.cache: Measurements | None = None
        self.measured: set[str] = set()

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Measurements | None:
        if not serialized_timing_cache:
            return Measurements(set())
        header, *names = serialized_timing_cache.decode(errors="replace").split("\n")
        return Measurements(set(names)) if header == "timings" else None

    def set_timing_cache(self, cache: Measurements, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> Measurements:
        return self.cache

    def build(self, kernels: set[str]) -> None:
        self.measured = kernels - self.cache.names
        self.cache.names |= kernels


def build(path: Path, kernels: set[str]) -> set[str]:
    """Returns what the build had to measure."""
    config = Config()
    with timing_cache(config, path):
        config.build(kernels)
    return config.measured


def test_a_second_build_measures_only_what_the_first_did_not(tmp_path: Path):
    path = tmp_path / "kept" / "gpu.timings"
    assert build(path, {"gemm", "conv"}) == {"gemm", "conv"}
    assert build(path, {"conv", "softmax"}) == {"softmax"}
    assert build(path, {"gemm", "conv", "softmax"}) == set()


def test_builds_that_overlap_keep_each_others_measurements(tmp_path: Path):
    path, first, second = tmp_path / "gpu.timings", Config(), Config()
    with timing_cache(first, path):
        first.build({"gemm"})
        with timing_cache(second, path):
            second.build({"conv"})
    assert build(path, {"gemm", "conv"}) == set()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe damaged", b"of another GPU"])
def test_a_file_that_the_library_does_not_accept_counts_as_empty(tmp_path: Path, content: bytes):
    path = tmp_path / "gpu.timings"
    path.write_bytes(content)
    assert build(path, {"gemm"}) == {"gemm"}
    assert build(path, {"gemm"}) == set()


def test_a_build_that_fails_leaves_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "gpu.timings"
    build(path, {"gemm"})
    before = path.read_bytes()
    with pytest.raises(RuntimeError), timing_cache(config := Config(), path):
        config.build({"conv"})
        raise RuntimeError
    assert path.read_bytes() == before
    assert not [each for each in tmp_path.iterdir() if each.name not in ("gpu.timings", "gpu.timings.lock")]


@pytest.mark.extended  # make test-all installs TensorRT-RTX
def test_the_stand_in_has_the_librarys_names():
    trt = pytest.importorskip("tensorrt_rtx")
    for mine, theirs in ((Measurements, trt.ITimingCache), (Config, trt.IBuilderConfig)):
        assert not [name for name in vars(mine) if not name.startswith("_") and name != "build"
                    and not hasattr(theirs, name)]  # fmt: skip
