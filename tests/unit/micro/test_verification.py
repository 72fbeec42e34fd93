"""Captions are parsed exactly, and the checks agree with all hard negatives that the grammar can write."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polygen_stream.base import seeding
from polygen_stream.micro import world
from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.language import AXES, draw_caption_pair
from polygen_stream.micro.parse import UNNAMED, NotACaption, parse
from polygen_stream.micro.reference_negatives import reference_negatives
from polygen_stream.micro.verification import caption_fault, negative_fault
from polygen_stream.micro.world import Scene, Split, Thing, sample_scene


def test_parsing_returns_the_scene_without_what_the_caption_leaves_open():
    rng = seeding.rng("parse")
    for _ in range(3000):
        scene, style = sample_scene(rng), Style.sample(rng)
        said = scene if style.names_background else replace(scene, background=UNNAMED)
        for i in range(len(scene.things) if not style.names_colour else 0):
            said = said.with_thing(i, colour=UNNAMED)
        assert parse(describe(scene, style)) == said


@pytest.mark.parametrize(
    "text",
    [
        "", "fish", "A fish", "a fish.", "a  fish", "an fish", "a orange fish", "a red blue fish", "a fish a",
        "two fishes", "two cat", "a cats", "there are a fish", "there is two fish", "a fish left of two cats",
        "two cats above a fish", "a fish left of a cat at the top", "two cats on the left",
        "a fish at night on a beach",
        "a fish on a beach by the shore", "on a beach, a fish at night", ", a fish", "a fish on a moon beach",
    ],
)  # fmt: skip
def test_a_text_that_the_grammar_cannot_write_is_not_a_caption(text: str):
    with pytest.raises(NotACaption):
        parse(text)


@pytest.mark.parametrize("axis", AXES)
def test_checks_accept_exactly_the_negatives_that_the_grammar_can_write(axis: str):
    rng = seeding.rng("verification", axis)
    accepted_elsewhere = 0
    for i in range(25):
        drawn = draw_caption_pair(world.THINGS[i % len(world.THINGS)], axis, i % 2 == 1, rng)
        assert caption_fault(drawn.text, world.THINGS[i % len(world.THINGS)], axis) is None
        assert negative_fault(drawn.text, drawn.negative, axis) is None
        possible = reference_negatives(drawn, axis)
        assert drawn.negative in possible
        faults = {negative_fault(drawn.text, text, axis) for text in sorted(possible)[:60]}
        assert faults <= {None, "reserved"}, faults
        for other in set(AXES) - {axis}:
            accepted_elsewhere += negative_fault(drawn.text, drawn.negative, other) is None
    assert accepted_elsewhere == 0, "a negative of one axis passed as one of another"


@pytest.mark.parametrize(
    ("text", "negative", "axis", "fault"),
    [
        ("a small red fish", "a small red fish", "replace_colour", "unchanged"),
        ("a small red fish", "a tiny red fish", "replace_size", "paraphrase"),
        ("a small red fish", "a tiny blue fish", "replace_colour", "reworded"),
        ("a picture of a red fish", "a photo of a blue fish", "replace_colour", "reworded"),
        ("a red fish", "a blue cat", "replace_colour", "several changes"),
        ("a red fish", "a blue fish", "replace_object", "other axis"),
        ("a red fish", "a blue fish fish", "replace_colour", "unparsable"),
        ("a fish left of a cat", "a cat left of a cat", "replace_object", "several changes"),
        ("a fish left of a cat", "a cat right of a fish", "swap_object", "several changes"),
        ("a fish", "a fish left of a fish", "add_object", "several changes"),
        ("a fish", "a cat left of a fish", "add_object", "several changes"),
        ("a fish", "a " + "very " * 30 + "red fish", "replace_colour", "too long"),
        ("a fish on the left", "a fish", "replace_position", "several changes"),
        ("a red fish", "a blue fish", "replace_colour", None),
        ("a fish left of a cat", "a cat left of a fish", "swap_object", None),
        ("a fish on a beach", "at night, a fish on a beach", "replace_lighting", "unparsable"),
    ],
)
def test_the_fault_of_a_negative(text: str, negative: str, axis: str, fault: str | None):
    assert negative_fault(text, negative, axis) == fault


@pytest.mark.parametrize(
    ("text", "concept", "axis", "fault"),
    [
        ("a red fish", "cat", "replace_object", "no concept"),
        ("a fish", "fish", "replace_colour", "axis not named"),
        ("a fish", "fish", "swap_object", "axis not named"),
        ("fish, red", "fish", "replace_object", "unparsable"),
        ("three leaves", "leaf", "replace_count", None),
    ],
)
def test_the_fault_of_a_caption(text: str, concept: str, axis: str, fault: str | None):
    assert caption_fault(text, concept, axis) == fault


def test_a_reserved_combination_is_a_fault_if_the_caption_mentions_all_of_it():
    rng = seeding.rng("reserved")
    scene = world.sample_single(rng, Split.UNSEEN, "fish")
    scene = replace(scene, things=(replace(scene.things[0], size="medium"),))
    full = Style(opening=0, synonym=0, fronted=False, names_background=True, names_colour=True)
    text = describe(scene, full)
    assert caption_fault(text, "fish", "replace_object") == "reserved"
    assert caption_fault(describe(scene, replace(full, names_colour=False)), "fish", "replace_object") is None
    seen = next(
        c for c in world.COLOURS
        if not world.is_reserved(Scene((Thing("fish", c),), scene.background)) and c != scene.things[0].colour
    )  # fmt: skip
    before = describe(scene.with_thing(0, colour=seen), full)
    assert negative_fault(before, text, "replace_colour") == "reserved"


def test_any_two_captions_have_a_verdict_on_every_axis():
    """Also of a caption with a number that became a pair, which no edit makes and a language model may write."""
    rng = seeding.rng("any two captions")
    texts = [describe(sample_scene(rng, None), Style.sample(rng)) for _ in range(30)]
    texts += ["two cats", "two cats at night", "three red cats on a beach", "a cat left of a fish", "a cat on a beach"]
    for text in texts:
        for other in texts:
            for axis in AXES:
                fault = negative_fault(text, other, axis)
                assert fault is None or fault in FAULTS, fault
    assert negative_fault("two cats", "a cat left of a fish", "add_object") == "several changes"


FAULTS = {"unchanged", "too long", "unparsable", "paraphrase", "several changes", "other axis", "reworded", "reserved"}
