"""The caption pairs of the micro world's compositional test, each with two pictures.

Of one picture the first caption is true and the second false, of the other the reverse. Each text is the true one as
often as the false one, next to the same other text, so a rule that reads the texts alone is right in half of the cases
exactly, whatever it looks at: length, frequent words, or what a language model finds likely.

That needs two captions that contradict each other's scene. Where the grammar does not name one side of an edit (a thing
that is not there, plain material, daylight), leaving it out makes a caption less complete and not false. There the
caption without it names a position, which the other picture contradicts; stripes move from one thing of a pair to the
other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import FRONTED_SHARE, OPENING, Style, describe, widen_style
from polygen_stream.micro.world import INVERSE_RELATION, Scene, Split

# relation of a thing to another -> the edge of the picture that it is far from
FAR_EDGE = {"left of": "right", "right of": "left", "above": "bottom", "below": "top"}
SYNONYM_STEPS = (1, 5)  # modulo 6: another phrase of every attribute value, be there two of them or three


@dataclass(frozen=True)
class MirroredPair:
    """Two scenes of one split and a caption of each that is false of the other.

    Attributes:
        scenes: What the two pictures show.
        captions: `captions[i]` is true of `scenes[i]`; both have the same wording.
        paraphrases: `paraphrases[i]` names the same of `scenes[i]` in other words.
    """

    scenes: tuple[Scene, Scene]
    captions: tuple[str, str]
    paraphrases: tuple[str, str]


def draw_mirrored_pair(edit: str, split: Split, rng: np.random.Generator) -> MirroredPair:
    """Draw a pair of captions that differ by an edit.

    Args:
        edit: One of `edits.EDITS`.
        split: The split of both scenes.
        rng: Random generator.
    """
    scenes = _SCENES[edit](split, rng) if edit in _SCENES else edits.applicable_scene(edit, split, rng)
    style = widen_style(*scenes, Style.sample(rng))
    first, second = (describe(scene, style) for scene in scenes)
    return MirroredPair(scenes, (first, second), (paraphrase(scenes[0], style, rng), paraphrase(scenes[1], style, rng)))


def paraphrase(scene: Scene, style: Style, rng: np.random.Generator) -> str:
    """Write what `describe(scene, style)` says in other words, and a pair from its other thing ("b right of a").

    Phrases and opening differ from those of `style`, and so does the place of the setting if that comes first. Where
    `style` is random, each opening and each place of the setting is as frequent as there.
    """
    if scene.relation is not None:
        scene = replace(scene, things=scene.things[::-1], relation=INVERSE_RELATION[scene.relation])
    step = SYNONYM_STEPS[int(rng.integers(len(SYNONYM_STEPS)))]
    opening = _other_opening(style.opening, rng)
    fronted = not style.fronted and bool(rng.random() < FRONTED_SHARE / (1 - FRONTED_SHARE))
    return describe(scene, replace(style, opening=opening, synonym=(style.synonym + step) % 6, fronted=fronted))


def _other_opening(opening: int, rng: np.random.Generator) -> int:
    worded = [i for i, text in enumerate(OPENING) if text and i != opening]
    silent = [i for i, text in enumerate(OPENING) if not text]
    if OPENING[opening] and rng.random() < len(silent) / (len(OPENING) - len(silent)):
        return silent[0]
    return worded[int(rng.integers(len(worded)))]


def _added_object(split: Split, rng: np.random.Generator) -> tuple[Scene, Scene]:
    """One thing at an edge; the thing beside another one, far from that edge."""
    scene, pair = edits.applicable_scene("add_object", split, rng)
    assert pair.relation is not None
    return replace(scene, position=FAR_EDGE[pair.relation]), pair


def _added_attribute(split: Split, rng: np.random.Generator) -> tuple[Scene, Scene]:
    """A plain thing at an edge; the thing in the centre, striped."""
    scene = _one_thing_in_the_centre(split, rng)
    return _at_an_edge(scene.with_thing(0, material="plain"), rng), scene.with_thing(0, material="striped")


def _other_lighting(split: Split, rng: np.random.Generator) -> tuple[Scene, Scene]:
    """A thing at an edge by day; the thing in the centre at night."""
    scene = _one_thing_in_the_centre(split, rng)
    return _at_an_edge(replace(scene, lighting="day"), rng), replace(scene, lighting="night")


def _moved_stripes(split: Split, rng: np.random.Generator) -> tuple[Scene, Scene]:
    """A pair whose first thing is striped; the pair with its second thing striped."""
    while not (scene := world.sample_scene(rng, split)).is_pair:
        pass
    plain = scene.with_thing(0, material="plain").with_thing(1, material="plain")
    return plain.with_thing(0, material="striped"), plain.with_thing(1, material="striped")


def _one_thing_in_the_centre(split: Split, rng: np.random.Generator) -> Scene:
    """A scene whose caption has room for a position: what names a size or a number is left out."""
    while True:
        scene = world.sample_scene(rng, split)
        if not scene.is_pair and scene.count == 1 and scene.position == "centre" and scene.things[0].size == "medium":
            return scene


def _at_an_edge(scene: Scene, rng: np.random.Generator) -> Scene:
    edges = [position for position in world.POSITIONS if position != "centre"]
    return replace(scene, position=edges[int(rng.integers(len(edges)))])


# The edits that are not between two values that captions name.
_SCENES: dict[str, Callable[[Split, np.random.Generator], tuple[Scene, Scene]]] = {
    "replace_material": _moved_stripes,
    "replace_lighting": _other_lighting,
    "add_object": _added_object,
    "add_attribute": _added_attribute,
}
