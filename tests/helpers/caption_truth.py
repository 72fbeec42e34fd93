"""Whether a caption of the micro world is true of a scene: all that it says is there. It may leave things out."""

from __future__ import annotations

from polygen_stream.micro.oracle import canonical
from polygen_stream.micro.parse import UNNAMED, parse
from polygen_stream.micro.world import Scene, Thing

SIDES = {"left of": ("left", "right"), "above": ("top", "bottom")}  # of the first and the second thing


def is_true(caption: str, scene: Scene) -> bool:
    said, shown = canonical(parse(caption)), canonical(scene)
    if said.background not in (UNNAMED, shown.background):
        return False
    if said.weather not in ("clear", shown.weather) or said.lighting not in ("day", shown.lighting):
        return False
    if said.is_pair:
        return said.relation == shown.relation and all(map(_is, said.things, shown.things))
    if said.count > 1:
        return said.count == shown.count and _is(said.things[0], shown.things[0])
    places = SIDES[shown.relation] if shown.relation else (shown.position,)
    return any(
        _is(said.things[0], thing) and said.position in ("centre", place)
        for thing, place in zip(shown.things, places, strict=True)
    )


def _is(said: Thing, shown: Thing) -> bool:
    return (
        said.noun == shown.noun
        and said.colour in (UNNAMED, shown.colour)
        and said.size in ("medium", shown.size)
        and said.material in ("plain", shown.material)
    )
