"""The openai source with a real `vllm serve` on localhost, and the benchmark that compares sources."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.bench.captions.vllm_server import vllm_server
from polygen_stream.captions.base import Caption
from polygen_stream.micro.verification import caption_fault

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
MISTRAL = "package:mistral"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with vllm_server(MISTRAL) as endpoint:
        yield endpoint


def test_captions_of_a_real_server_are_correct_and_repeatable(endpoint, open_source, tasks):
    source = open_source(source="openai", endpoint=endpoint, editor=MISTRAL, batch=64, backlog=64)
    asked = tasks(source, 128)
    written = source.write(asked, [False] * 128)
    assert sum(isinstance(result, Caption) for result in written) >= 0.95 * 128
    for task, result in zip(asked, written, strict=True):
        assert not isinstance(result, Caption) or caption_fault(result.text, task.concept, task.axis) is None
    assert source.write(asked, [False] * 128) == written
    assert source.tokens > 2 * 128 * 2


def test_the_regex_reaches_the_server(endpoint, open_source, tasks):
    source = open_source(
        source="openai", endpoint=endpoint, editor=MISTRAL, structured_output_regex="a red [a-z]+", retries=0
    )
    asked = [task for task in tasks(source, 40) if task.axis == "replace_colour"]
    written = source.write(asked, [False] * len(asked))
    texts = [result.text for result in written if isinstance(result, Caption)]
    assert texts and all(re.fullmatch("a red [a-z]+", text) for text in texts)


def test_a_model_that_the_server_does_not_serve_is_a_one_line_error(endpoint, open_source):
    with pytest.raises(UserError, match=r"serves package:mistral, not 'other'"):
        open_source(source="openai", endpoint=endpoint, writer="other")


def test_the_benchmark_measures_every_source_on_the_same_tasks(tmp_path):
    command = [sys.executable, "-m", "polygen_stream", "bench", "captions", "--in-flight", "16", "--tasks", "32"]
    words = ["--rounds", "2", "--threads", "1", "--json", "found.json", "--captions.editor", MISTRAL]
    done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "found.json").read_text())["results"]
    assert [(row["source"], row["in_flight"]) for row in rows] == [
        ("transformers", 16), ("vllm", 16), ("openai", 16)
    ]  # fmt: skip
    for row in rows:
        assert row["captions_per_s"]["n"] == 2
        assert row["tokens_per_s"]["median"] > row["captions_per_s"]["median"] > 0
        assert 0.8 < row["accepted"] <= 1 and row["start_s"] > 0
        assert row["memory_mib"] > (20 if row["source"] == "openai" else 100)  # the model is in the server's process
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and [line.split(" | ")[0] for line in lines[2:]] == ["| transformers", "| vllm", "| openai"]
    assert lines[2].split(" | ")[3] == "1.00"
