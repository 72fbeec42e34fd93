"""The vllm source with real engines: concurrent requests, both stages, seeds, structured output, crashes, sleep."""

from __future__ import annotations

import re
import time
from collections import Counter

import psutil
import pytest
import torch

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.micro import MicroBank
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.models.transformers_model import TransformersModel
from polygen_stream.captions.sources import language_models
from polygen_stream.captions.verification.words import content_stems, split_words
from polygen_stream.config import CaptionsConfig
from polygen_stream.micro.verification import caption_fault, negative_fault

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


def engines() -> list[psutil.Process]:
    """The processes of the engines that this process has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        if process.status() != psutil.STATUS_ZOMBIE and "EngineCore" in " ".join(process.cmdline()):
            found.append(process)
    return found


def test_captions_and_hard_negatives_are_correct_and_repeatable(micro, tasks):
    """The same task gets the same caption whatever else is pending, and T+ is the same without its negative."""
    asked = tasks(micro, 192)
    pairs = micro.write(asked, [True] * 192)
    for task, result in zip(asked, pairs, strict=True):
        if isinstance(result, Caption):
            assert caption_fault(result.text, task.concept, task.axis) is None
            assert negative_fault(result.text, result.negative, task.axis) is None
    assert sum(isinstance(result, Caption) for result in pairs) >= 0.95 * 192
    again = [micro.write(asked[first : first + 64], [True] * 64) for first in (64, 128)]
    assert [*again[0], *again[1]] == pairs[64:]
    plain = micro.write(asked[5:25], [False] * 20)
    for alone, pair in zip(plain, pairs[5:25], strict=True):
        assert not isinstance(pair, Caption) or alone.text == pair.text


def test_64_requests_are_pending_at_once_and_both_engines_are_busy(micro, tasks):
    asked = tasks(micro, 600)
    waiting, written, most_in_flight, both = iter(asked), [], 0, 0
    writer, editor = micro._writer, micro._editor
    for _ in range(96):
        micro.submit(next(waiting), True)
    while micro.pending:
        results = micro.collect()
        written += results
        for _, task in zip(results, waiting, strict=False):
            micro.submit(task, True)
        most_in_flight = max(most_in_flight, writer.pending + editor.pending)
        both += bool(writer.pending and editor.pending)
    assert len(written) == 600
    assert most_in_flight >= 64
    assert both > 10, "the two stages did not overlap"
    assert written[:192] == micro.write(asked[:192], [True] * 192)


def test_an_engine_killed_in_mid_batch_is_replaced_and_its_requests_repeated(micro, tasks):
    asked = tasks(micro, 256)
    whole = micro.write(asked, [True] * 256)
    before = engines()
    assert len(before) == 2
    for task in asked:
        micro.submit(task, True)
    pieced = []
    while len(pieced) < 20:
        pieced += micro.collect()
    before[0].kill()
    while micro.pending:
        pieced += micro.collect()
    # Every task has one result, in order, equal to that without the crash.
    assert pieced == whole
    assert micro.write(asked[:2], [True, True]) == whole[:2]  # restarts an engine that had no more requests
    after = engines()
    assert len(after) == 2 and before[0] not in after


def test_sleep_frees_memory_and_the_next_task_wakes_the_models(micro, tasks):
    asked = tasks(micro, 8)
    written = micro.write(asked, [True] * 8)
    freed = micro.sleep()
    assert engines() == []
    assert freed > 1e9, "two engines have a gigabyte of cache each"
    assert micro.sleep() == 0
    assert micro.write(asked, [True] * 8) == written


@pytest.mark.parametrize("role", ["writer", "editor"])
def test_greedy_replies_are_those_of_transformers(micro, tasks, role, open_source):
    """The same weights, tokens and templates: greedy decoding in float32 gives the same texts."""
    bank = MicroBank()
    asked = tasks(micro, 64)
    ask = {
        "writer": lambda task: bank.caption_prompt(task.concept, task.axis, task.task_id % 2 == 1),
        "editor": lambda task: bank.negative_prompt(f"a red {task.concept} at night", task.axis),
    }[role]
    prompts = [ask(task) for task in asked]
    name = getattr(CaptionsConfig(), role)
    [greedy, _] = language_models(CaptionsConfig(source="vllm", writer=name, editor=name, temperature=0.0, batch=64))
    try:
        found = greedy.complete(prompts, range(64))
    finally:
        greedy.close()
    torch.set_num_threads(1)
    reference = TransformersModel(
        name, device="cpu", dtype="auto", temperature=0.0, top_p=0.95, max_tokens=32, batch=64
    )
    assert found == reference.complete(prompts, range(64))
    assert greedy.tokens == reference.tokens


def test_the_regex_constrains_the_replies_of_a_real_model(open_source, tasks, concepts, smollm2):
    """SmolLM2 writes long replies. The regex limits them to one line of a few words, and they are checked as usual."""
    pattern = r"An? [a-z ,]{12,80}\."
    source = open_source(
        source="vllm", bank="english", concepts=str(concepts), writer=smollm2, editor=smollm2, dtype="bfloat16",
        batch=32, max_tokens=48, retries=3, structured_output_regex=pattern,
    )  # fmt: skip
    assert len(engines()) >= 1
    asked = tasks(source, 48)
    began = time.monotonic()
    results = source.write(asked, [False] * 48)
    seconds = time.monotonic() - began
    written = [(task, result) for task, result in zip(asked, results, strict=True) if isinstance(result, Caption)]
    for task, result in written:
        assert re.fullmatch(pattern, result.text)
        assert set(content_stems(task.concept)) <= set(content_stems(result.text)), (task.concept, result.text)
        assert len(split_words(result.text)) <= 20
    refused = Counter(reason for result in results for reason in result.rejected)
    assert sum(isinstance(result, Dropped) for result in results) + len(written) == 48
    print(f"{len(written)} of 48 tasks, {len(written) / (len(written) + refused.total()):.0%} of replies accepted, "
          f"{seconds:.0f} s, refused: {dict(refused)}")  # fmt: skip
    assert len(written) >= 5


def test_a_missing_model_is_a_one_line_error(tmp_path, open_source):
    with pytest.raises(UserError, match=r"language model .*vLLM cannot run"):
        open_source(source="vllm", writer=str(tmp_path))
    assert engines() == [] or len(engines()) == 2  # the engines of the shared source
