"""The caption grammar and the edits that make hard negatives."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from polygen_stream.base import seeding
from polygen_stream.captions.base import Caption
from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.micro import edits, world
from polygen_stream.micro.edits import EditDoesNotApply, applicable_scene, apply_edit
from polygen_stream.micro.grammar import Style, describe, write_pair
from polygen_stream.micro.parse import UNNAMED, meaning, parse
from polygen_stream.micro.world import Scene, Split, Thing, is_reserved, sample_scene
from polygen_stream.schedule.ledger import Ledger

PLAIN = Style(opening=0, synonym=0, fronted=False, names_background=True, names_colour=True)


def test_a_caption_mentions_the_content_of_its_scene():
    scene = Scene((Thing("arrow", "orange", size="big"),), "sea", lighting="night", weather="rain")
    assert describe(scene, PLAIN) == "a big orange arrow on the sea in the rain at night"
    pair = Scene((Thing("cat", "red", material="striped"), Thing("key", "blue")), "wall", relation="below")
    assert describe(pair, PLAIN) == "a striped red cat below a blue key before a brick wall"
    several = Scene((Thing("leaf", "green"),), "snow", count=3)
    assert describe(several, replace(PLAIN, opening=6)) == "there are three green leaves in the snow"
    assert describe(several, replace(PLAIN, fronted=True)) == "in the snow, three green leaves"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a red cat left of a blue car", "a blue car right of a red cat"),
        ("a photo of a cat under a key at night", "in the dark, a key higher than a cat"),
        ("a tiny fish by the shore", "there is a little fish on a beach"),
    ],
)
def test_captions_of_one_scene_have_one_meaning(one: str, other: str):
    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a red cat left of a blue car", "a red cat right of a blue car"),
        ("a red cat left of a blue car", "a blue cat left of a red car"),
        ("a red cat", "a cat"),
        ("a cat on a beach", "a cat"),
        ("two cats", "a cat"),
    ],
)
def test_captions_of_two_scenes_have_two_meanings(one: str, other: str):
    assert meaning(one) != meaning(other)


def test_captions_fit_the_ring_and_the_text_encoders():
    rng = seeding.rng("lengths")
    captions = [describe(sample_scene(rng), Style.sample(rng)) for _ in range(5000)]
    assert max(len(c.encode()) for c in captions) <= 192
    assert max(len(c.replace(",", " ,").split()) for c in captions) <= 30
    assert len(set(captions)) > 4500


@pytest.mark.parametrize("edit", edits.EDITS)
def test_an_edit_changes_one_axis_and_stays_in_its_split(edit: str):
    rng = seeding.rng("edit", edit)
    for split in Split:
        for _ in range(60):
            scene, edited = applicable_scene(edit, split, rng)
            assert is_reserved(scene) == is_reserved(edited) == (split is Split.UNSEEN)
            assert _changed(scene, edited) in EXPECTED[edit], (scene, edited)


# edit -> the sets of fields that it may change; fields of a thing have its index
EXPECTED: dict[str, list[set[str]]] = {
    "replace_object": [{"0.noun"}, {"1.noun"}],
    "replace_colour": [{"0.colour"}, {"1.colour"}],
    "replace_size": [{"0.size"}],
    "replace_material": [{"0.material"}, {"1.material"}],
    "replace_count": [{"count"}],
    "replace_relation": [{"relation"}],
    "replace_position": [{"position"}],
    "replace_background": [{"background"}],
    "replace_lighting": [{"lighting"}],
    "replace_weather": [{"weather"}],
    "swap_object": [{"0.noun", "1.noun"}],
    "swap_attribute": [{"0.colour", "1.colour"}],
    "add_object": [{"things", "relation"}],
    "add_attribute": [{"0.material"}, {"1.material"}],
}


def _changed(a: Scene, b: Scene) -> set[str]:
    changed = {f.name for f in fields(Scene) if f.name != "things" and getattr(a, f.name) != getattr(b, f.name)}
    if len(a.things) != len(b.things):
        return changed | {"things"}
    for i, (x, y) in enumerate(zip(a.things, b.things, strict=True)):
        changed |= {f"{i}.{f.name}" for f in fields(Thing) if getattr(x, f.name) != getattr(y, f.name)}
    return changed


def test_an_edit_that_does_not_apply_raises():
    alone = Scene((Thing("cat", "red"),), "sea")
    with pytest.raises(EditDoesNotApply):
        apply_edit(alone, "swap_attribute", seeding.rng("x"))


def test_caption_and_negative_differ_in_few_words_only():
    rng = seeding.rng("pairs")
    for edit in edits.EDITS:
        if edit == "add_object":
            continue
        for _ in range(30):
            caption, negative = (
                c.split() for c in write_pair(*applicable_scene(edit, Split.SEEN, rng), Style.sample(rng))
            )
            assert caption != negative
            kept = len([w for w in caption if w in negative])
            assert kept >= len(caption) - 6, (caption, negative)


def test_the_grammar_source_is_a_function_of_the_task():
    ledger = Ledger(7, GrammarSource.concepts, GrammarSource.axes, 4, 4)
    tasks = [ledger.task(i) for i in range(50)]
    plain = GrammarSource().write(tasks, [False] * 50)
    pairs = GrammarSource().write(tasks, [True] * 50)
    assert [c.text for c in plain] == [c.text for c in pairs], "T+ must not depend on the curriculum"
    assert all(c.negative is None for c in plain)
    assert all(c.negative != c.text and c.edit == t.axis for c, t in zip(pairs, tasks, strict=True))
    for task, caption in zip(tasks, plain, strict=True):
        assert any(form in caption.text for form in (task.concept, "leaves"))


def test_captions_of_whole_scenes_name_colours_and_backgrounds():
    ledger = Ledger(7, GrammarSource.concepts, GrammarSource.axes, 4, 4)
    tasks = [ledger.task(i) for i in range(400)]
    named = {}
    for share in (0.0, 0.5, 1.0):
        written = GrammarSource(share).write(tasks, [False] * len(tasks))
        scenes = [parse(caption.text) for caption in written if isinstance(caption, Caption)]
        assert len(scenes) == len(tasks)
        named[share] = [
            np.mean([s.background != UNNAMED for s in scenes]),
            np.mean([s.things[0].colour != UNNAMED for s in scenes]),
        ]
    assert named[0.0][0] < 0.25 and named[0.0][1] < 0.45
    assert named[1.0][0] > 0.65 and named[1.0][1] > 0.85
    assert named[0.0] < named[0.5] < named[1.0]


def test_concepts_and_axes_cover_the_world():
    assert GrammarSource.concepts == world.THINGS
    assert {edits.CATEGORY[a] for a in GrammarSource.axes} == {
        "replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att"
    }  # fmt: skip
