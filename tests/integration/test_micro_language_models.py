"""The shipped Mistral and Llama, with the prompts of the captioner."""

from __future__ import annotations

import numpy as np
import pytest

from polygen_stream.audit.captions import audit_editor, audit_writer
from polygen_stream.captions.base import Caption
from polygen_stream.captions.sources import caption_source, language_models
from polygen_stream.config import load_config
from polygen_stream.micro import world
from polygen_stream.micro.language import AXES
from polygen_stream.micro.parse import parse
from polygen_stream.micro.verification import caption_fault, negative_fault
from polygen_stream.schedule.ledger import Ledger


@pytest.fixture(scope="module")
def captions():
    return load_config(None).captions


def test_captions_name_their_concept_and_negatives_change_one_axis(captions):
    writer, editor = language_models(captions)
    written, edited = audit_writer(writer, 210, seed=3), audit_editor(editor, 15, seed=3)
    assert written["concept_present"]["share"] >= 0.98
    assert edited["one_axis"]["share"] >= 0.9
    assert edited["exact"]["share"] >= 0.99
    assert all(shown["share"] > 0.6 for shown in edited["one_axis_by_axis"].values()), edited["one_axis_by_axis"]


def test_the_preset_names_every_background_often(captions):
    source = caption_source(captions)
    ledger = Ledger(5, source.concepts, source.axes, 4, 4)
    written = source.write([ledger.task(i) for i in range(300)], [False] * 300)
    scenes = [parse(caption.text) for caption in written if isinstance(caption, Caption)]
    assert len(scenes) > 290
    # Whole scenes name each of the eight in about a tenth, as the test captions do; the others hardly ever do.
    for background in world.BACKGROUNDS:
        assert np.mean([scene.background == background for scene in scenes]) > captions.scene_share / 20, background


def test_a_result_depends_on_its_task_and_not_on_the_batch(captions):
    source = caption_source(captions)
    ledger = Ledger(11, source.concepts, source.axes, 4, 4)
    tasks = [ledger.task(i) for i in range(24)]
    pairs = source.write(tasks, [True] * 24)
    plain = source.write(tasks[5:9], [False] * 4)
    assert [c.text for c in plain] == [c.text for c in pairs[5:9]], "T+ depends on the curriculum or on the batch"
    assert [source.write([t], [True])[0] for t in tasks[:4]] == pairs[:4]
    for task, caption in zip(tasks, pairs, strict=True):
        assert isinstance(caption, Caption)
        assert caption_fault(caption.text, task.concept, task.axis) is None
        assert negative_fault(caption.text, caption.negative, task.axis) is None


def test_both_models_stay_below_three_million_parameters(captions):
    for model in language_models(captions):
        assert 1e5 < model.parameters() <= 3e6
    assert set(AXES) == set(caption_source(captions).axes)
