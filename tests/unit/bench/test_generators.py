"""`polygen-stream bench generators`: what it measures, on the quickest generator, eager."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from polygen_stream.bench.generators.benchmark import bench_generators
from polygen_stream.bench.generators.view import markdown

NAME = "micro/sdxl_turbo"


@pytest.fixture(scope="module")
def result() -> dict:
    return bench_generators([NAME], ["eager"], [1, 3], repeats=2, threads=1)


def test_there_is_one_row_per_backend_and_batch_and_it_is_json(result: dict):
    assert [(row["generator"], row["backend"], row["batch"]) for row in result["results"]] == [
        (NAME, "eager", 1), (NAME, "eager", 3)
    ]  # fmt: skip
    assert json.loads(json.dumps(result)) == result


def test_rates_follow_from_latencies_and_stages_add_up(result: dict):
    for row in result["results"]:
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch"] / row["latency_ms"], rel=0.01)
        assert set(row["stages_ms"]) == {"text", "denoise", "decode", "other"}
        assert all(spent > 0 for spent in row["stages_ms"].values())
        # the median of a sum is about the sum of the medians
        assert sum(row["stages_ms"].values()) == pytest.approx(row["latency_ms"], rel=0.3)


def test_the_table_has_a_line_per_row_and_one_per_ensemble(result: dict):
    lines = markdown(result).splitlines()
    assert len(lines) == 2 + 2 + 2
    assert lines[2].startswith(f"| {NAME} | eager | 1 | ")
    assert lines[-1].startswith("| all, equal shares | eager | 3 | ")
    assert lines[2].split(" | ")[5] == "1.00"
    assert len({line.count("|") for line in lines}) == 1


def test_a_factor_compares_equal_batches_only():
    rows = [
        {"generator": "g", "backend": backend, "batch": batch, "images_per_s": rate, "images_per_cpu_s": rate,
         "latency_ms": 1, "stages_ms": dict.fromkeys(("text", "denoise", "decode", "other"), 0), "mib": 1}
        for backend, batch, rate in (("eager", 1, 10.0), ("eager", 16, 40.0), ("openvino", 16, 100.0))
    ]  # fmt: skip
    lines = markdown({"results": rows, "ensemble": []}).splitlines()
    assert [line.split(" | ")[5] for line in lines[2:]] == ["1.00", "1.00", "2.50"]


def test_a_backend_without_engines_is_left_out_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("POLYGEN_STREAM_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        found = bench_generators([NAME], ["eager", "onnxruntime"], [1], repeats=1, threads=1)
    assert {row["backend"] for row in found["results"]} == {"eager"}
    assert f"{NAME}: onnxruntime is left out" in caplog.text
