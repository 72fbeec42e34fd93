"""Captions by language models: retries, drops, and sampling that depends on the seed of each row alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from scripted_model import ScriptedModel

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.base import ModelReply
from polygen_stream.captions.banks.micro import MicroBank
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.models.language_model import LanguageModelSource
from polygen_stream.captions.models.transformers_model import KeyedSampling, TransformersModel
from polygen_stream.schedule.ledger import CaptionTask


class Scripted(ScriptedModel):
    """A language model with scripted replies, by prompt and attempt."""

    def __init__(self, script: dict[str, list[str | ModelReply]]) -> None:
        super().__init__()
        self.script, self.seeds = script, []
        self.asked: dict[str, int] = {}

    def answer(self, turn: str, seed: int) -> str | ModelReply:
        attempt = self.asked.get(turn, 0)
        self.asked[turn] = attempt + 1
        self.seeds.append(seed)
        return self.script[turn][min(attempt, len(self.script[turn]) - 1)]


def task(number: int, concept: str, axis: str) -> CaptionTask:
    return CaptionTask(number, concept, axis, caption_seed=1000 + number, generators=(0,), image_seeds=(1,))


def test_a_rejected_reply_is_requested_again_with_another_seed():
    writer = Scripted({"describe fish: the colour": ["fish red", "a red cat", "a red fish"]})
    editor = Scripted({"replace colour: a red fish": ["a red fish", "a blue fish"]})
    source = LanguageModelSource(MicroBank(), writer, editor, retries=2)
    [caption] = source.write([task(1, "fish", "replace_colour")], [True])
    why = ("caption: unparsable", "caption: no concept", "negative: unchanged")
    assert caption == Caption("a red fish", "a blue fish", "replace_colour", why)
    assert len(set(writer.seeds)) == 3 and len(set(editor.seeds)) == 2


def test_the_share_of_whole_scenes_is_drawn_by_the_seed_of_each_task():
    prompts = {
        share: _writers_prompts(share, [task(n, "fish", "replace_object") for n in range(400)])
        for share in (0.0, 0.3, 1.0)
    }
    asks = {
        share: [prompt.startswith("describe a scene with fish") for prompt in found] for share, found in prompts.items()
    }
    assert not any(asks[0.0]) and all(asks[1.0])
    assert 0.2 < np.mean(asks[0.3]) < 0.4
    assert _writers_prompts(0.3, [task(7, "fish", "replace_object")]) == [prompts[0.3][7]]


def _writers_prompts(scene_share: float, tasks: list[CaptionTask]) -> list[str]:
    """Return what the writer is asked for these tasks, in their order."""
    asked: list[str] = []

    class Recorder(ScriptedModel):
        def answer(self, turn: str, seed: int) -> str:
            asked.append(turn)
            return "a fish"

    model = Recorder()
    LanguageModelSource(MicroBank(), model, model, 0, scene_share).write(tasks, [False] * len(tasks))
    return asked


def test_a_task_whose_attempts_are_all_rejected_is_dropped_and_the_others_are_not():
    writer = Scripted({"describe fish: the thing": ["nonsense"], "describe cat: the thing": ["a cat"]})
    editor = Scripted({"replace object: a cat": ["a dog"]})
    source = LanguageModelSource(MicroBank(), writer, editor, retries=1)
    tasks = [task(1, "fish", "replace_object"), task(2, "cat", "replace_object"), task(3, "cat", "replace_object")]
    fish, cat, plain = source.write(tasks, [False, True, False])
    assert fish == Dropped(("caption: unparsable",) * 2)
    assert cat == Dropped(("negative: unparsable",) * 2)
    assert plain == Caption("a cat")


def test_a_reply_that_reaches_the_token_limit_is_rejected():
    writer = Scripted({"describe fish: the thing": [ModelReply("a fish", False)]})
    [dropped] = LanguageModelSource(MicroBank(), writer, Scripted({}), 0).write(
        [task(1, "fish", "replace_object")], [False]
    )
    assert dropped == Dropped(("caption: endless",))


class Slow(Scripted):
    """Answers one request per step, the newest first."""

    def step(self) -> list[tuple[int, ModelReply]]:
        waiting, self._requests = self._requests[:-1], self._requests[-1:]
        found = super().step()
        self._requests = waiting
        return found


def test_tasks_do_not_wait_for_each_other_and_results_are_in_order():
    things = ("fish", "cat", "boat", "bird", "tree")
    writer = Slow({f"describe {thing}: the thing": [f"a {thing}"] for thing in things})
    editor = Slow({f"replace object: a {thing}": ["a star"] for thing in things})
    source = LanguageModelSource(MicroBank(), writer, editor, 0)
    waiting_when_asked = []
    editor.submit = lambda *request: (waiting_when_asked.append(writer.pending), Slow.submit(editor, *request))
    for number, thing in enumerate(things):
        source.submit(task(number, thing, "replace_object"), True)
    written = []
    while source.pending:
        written += source.collect()
    assert written == [Caption(f"a {thing}", "a star", "replace_object") for thing in things]
    assert waiting_when_asked == [4, 3, 2, 1, 0], "hard negatives were not asked for while captions were being written"


def test_a_request_without_a_reply_counts_as_rejected_and_is_repeated():
    lost = ModelReply("", False, fault="timeout")
    writer = Scripted({"describe fish: the thing": [lost, "a fish"], "describe cat: the thing": [lost]})
    source = LanguageModelSource(MicroBank(), writer, Scripted({}), 1)
    tasks = [task(1, "fish", "replace_object"), task(2, "cat", "replace_object")]
    assert source.write(tasks, [False, False]) == [
        Caption("a fish", rejected=("caption: timeout",)),
        Dropped(("caption: timeout",) * 2),
    ]


def test_one_model_may_write_and_edit():
    both = Scripted({"describe fish: the colour": ["a red fish"], "replace colour: a red fish": ["a blue fish"]})
    [caption] = LanguageModelSource(MicroBank(), both, both, 0).write([task(1, "fish", "replace_colour")], [True])
    assert caption == Caption("a red fish", "a blue fish", "replace_colour")


def test_sampling_follows_temperature_and_top_p():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
    drawn = np.zeros(5)
    seeds = list(range(4000))
    chosen = KeyedSampling(seeds, temperature=0.7, top_p=0.95)(torch.zeros(4000, 1), logits.expand(4000, 5)).argmax(-1)
    for token in chosen.tolist():
        drawn[token] += 1
    p = (logits / 0.7).softmax(-1).double()
    kept = p.cumsum(-1) - p < 0.95  # the logits are in descending order
    assert kept.tolist() == [True, True, True, False, False]
    assert drawn[~kept.numpy()].sum() == 0
    expected = (p[kept] / p[kept].sum() * 4000).numpy()
    assert chisquare(drawn[kept.numpy()], expected).pvalue > 0.001


def test_the_token_of_a_row_does_not_depend_on_the_other_rows():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    alone = [
        KeyedSampling([s], 1.0, 1.0)(torch.zeros(1, 1), logits[i : i + 1]).argmax() for i, s in enumerate(range(6))
    ]
    together = KeyedSampling(range(6), 1.0, 1.0)(torch.zeros(6, 1), logits).argmax(-1)
    assert together.tolist() == [int(a) for a in alone]
    greedy = KeyedSampling(range(6), 0.0, 1.0)(torch.zeros(6, 1), logits).argmax(-1)
    assert greedy.tolist() == logits.argmax(-1).tolist()


def test_a_missing_model_is_a_one_line_error(tmp_path):
    with pytest.raises(UserError, match=r"language model .*cannot load"):
        TransformersModel(str(tmp_path), device="cpu", dtype="auto", temperature=0.7, top_p=0.95, max_tokens=8, batch=4)
