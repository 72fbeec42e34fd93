"""The micro world's test set: painted images of reserved scenes, and the questions about them.

It is the same for every run and every seed, so that runs can be compared. Reserved scenes ("unseen") are the headline;
fresh pictures of scenes that training may see ("seen") are scored beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.evaluate.mirrored_pairs import draw_mirrored_pair
from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Scene, Split

SEED = 20260201
PROMPTS = ("a {}", "a picture of a {}", "a photo of a {}", "an image of a {}", "there is a {}")
IMAGES_PER_THING = 20  # of the test set, unless a run asks for others
PROBE_IMAGES_PER_THING = 40
RETRIEVAL_PAIRS = 200
PICTURES_PER_EDIT = 60  # two of every caption pair
CHANCE = {
    "zero_shot_things": 1 / len(world.THINGS),
    "zero_shot_colours": 1 / len(world.COLOURS),
    "retrieval_i2t_r1": 1 / RETRIEVAL_PAIRS,
    "retrieval_t2i_r1": 1 / RETRIEVAL_PAIRS,
    "compositional": 0.5,
    "micro_sugarcrepe_pp_itt": 1 / 3,
    "micro_sugarcrepe_pp_paraphrase": 0.5,
    "micro_sugarcrepe_pp_tot": 1 / 3,
}
# The scores that stand by edit too, under the key with "_by_edit" behind it.
BY_EDIT = ("compositional", "micro_sugarcrepe_pp_itt")


@dataclass(frozen=True)
class Classification:
    """Pictures uint8 [n, 32, 32, 3] of one thing each, with the indices of its noun and colour."""

    images: np.ndarray
    things: np.ndarray
    colours: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Pictures with their captions, all different."""

    images: np.ndarray
    captions: list[str]


@dataclass(frozen=True)
class EditedPairs:
    """Pictures with a true caption, one that an edit made false, and another wording of the true one.

    Attributes:
        images: uint8 [n, 32, 32, 3]. Pictures 2 i and 2 i + 1 have the same two captions, the one that is true of the
            first being false of the second.
        captions: True of their pictures.
        negatives: False of their pictures.
        edits: What each negative changes.
        paraphrases: They mean what `captions` mean.
        scenes: What the pictures show.
    """

    images: np.ndarray
    captions: list[str]
    negatives: list[str]
    edits: list[str]
    paraphrases: list[str]
    scenes: list[Scene]


@dataclass(frozen=True)
class MicroSuite:
    """The test set of one split."""

    classification: Classification
    retrieval: Pairs
    compositional: EditedPairs


def build_suite(split: Split, images_per_thing: int, retrieval_pairs: int = RETRIEVAL_PAIRS) -> MicroSuite:
    """The test set of a split; a larger one begins with the pictures of a smaller one."""
    return MicroSuite(
        classification(split, images_per_thing), _retrieval(split, retrieval_pairs), _compositional(split)
    )


def thing_prompts() -> list[list[str]]:
    """Prompts per thing, in the order of `world.THINGS`."""
    return [[_grammatical(p.format(noun)) for p in PROMPTS] for noun in world.THINGS]


def colour_prompts() -> list[list[str]]:
    """Prompts per colour over every thing, in the order of `world.COLOURS`."""
    return [[_grammatical(f"a {colour} {noun}") for noun in world.THINGS] for colour in world.COLOURS]


def chance() -> dict[str, object]:
    """Return the expected score of a model that guesses, with the keys of eval.jsonl."""
    return {**CHANCE, **{f"{name}_by_edit": dict.fromkeys(edits.EDITS, CHANCE[name]) for name in BY_EDIT}}


def classification(split: Split, images_per_thing: int, first: int = 0) -> Classification:
    """Pictures of one thing alone, number `first` and following of each thing."""
    images, things, colours = [], [], []
    for label, noun in enumerate(world.THINGS):
        for i in range(first, first + images_per_thing):
            rng = seeding.rng(SEED, split.value, "classification", noun, i)
            scene = world.sample_single(rng, split, noun)
            images.append(paint(scene, rng))
            things.append(label)
            colours.append(world.COLOURS.index(scene.things[0].colour))
    return Classification(np.stack(images), np.array(things), np.array(colours))


def _retrieval(split: Split, pairs: int) -> Pairs:
    images, captions, index = [], [], 0
    while len(captions) < pairs:
        rng = seeding.rng(SEED, split.value, "retrieval", index)
        index += 1
        scene = world.sample_scene(rng, split)
        caption = describe(scene, Style.sample(rng))
        if caption not in captions:
            captions.append(caption)
            images.append(paint(scene, rng))
    return Pairs(np.stack(images), captions)


def _compositional(split: Split) -> EditedPairs:
    images, captions, negatives, names, paraphrases, scenes = [], [], [], [], [], []
    for edit in edits.EDITS:
        for i in range(PICTURES_PER_EDIT // 2):
            rng = seeding.rng(SEED, split.value, "compositional", edit, i)
            pair = draw_mirrored_pair(edit, split, rng)
            for true, false in ((0, 1), (1, 0)):
                images.append(paint(pair.scenes[true], rng))
                captions.append(pair.captions[true])
                negatives.append(pair.captions[false])
                names.append(edit)
                paraphrases.append(pair.paraphrases[true])
                scenes.append(pair.scenes[true])
    return EditedPairs(np.stack(images), captions, negatives, names, paraphrases, scenes)


def _grammatical(prompt: str) -> str:
    words = prompt.split()
    for i, word in enumerate(words[:-1]):
        if word in ("a", "an"):
            words[i] = "an" if words[i + 1][0] in "aeiou" else "a"
    return " ".join(words)
