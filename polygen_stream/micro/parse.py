"""Parses captions of the micro grammar: the inverse of `grammar.describe`.

The parser is strict: it rejects every text that the grammar cannot write. The captions of language models are checked
with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from polygen_stream.micro import grammar, world
from polygen_stream.micro.world import Scene, Thing, canonical

UNNAMED = ""  # value of a colour or a background that a caption does not mention


class NotACaption(ValueError):
    """The text is not a caption of the micro grammar."""


def parse(text: str) -> Scene:
    """Return the scene of a caption, with `UNNAMED` for colours and a background that it does not mention.

    Raises:
        NotACaption: the grammar cannot write this text.
    """
    match = _CAPTION.fullmatch(text)
    if match is None:
        raise NotACaption(f"not a caption of the micro grammar: {text!r}")
    found = match.groupdict()
    front, end = (_setting(found[k] or "", text) for k in ("front", "end"))
    if found["front"] is not None and (any(end.values()) or not any(front.values())):
        raise NotACaption(f"the setting is mentioned twice, or is missing before the comma: {text!r}")
    setting = front if found["front"] is not None else end
    first, count = _noun_phrase(found, "1", text)
    things, relation = [first], None
    if found["relation"] is not None:
        relation = _RELATIONS[found["relation"]]
        second, seconds = _noun_phrase(found, "2", text)
        if count > 1 or seconds > 1:
            raise NotACaption(f"a relation between more than two things: {text!r}")
        things.append(second)
    position = _POSITIONS[found["position"]] if found["position"] else "centre"
    if position != "centre" and (relation or count > 1):
        raise NotACaption(f"a position with a relation or with several copies: {text!r}")
    opening = found["opening"] or ""
    if opening == ("there is " if count > 1 else "there are "):
        raise NotACaption(f"{opening.strip()!r} does not go with {count}: {text!r}")
    return Scene(
        things=tuple(things),
        background=setting["background"] or UNNAMED,
        relation=relation,
        count=count,
        position=position,
        lighting=setting["lighting"] or "day",
        weather=setting["weather"] or "clear",
    )


def meaning(text: str) -> Scene:
    """Return the scene of a caption such that captions of one meaning have equal scenes.

    Synonyms, openings and the order of the phrases do not count; a pair begins with its left or upper thing, so that
    "a cat left of a car" means the same as "a car right of a cat".

    Raises:
        NotACaption: the grammar cannot write this text.
    """
    return canonical(parse(text))


def parse_phrases(text: str) -> dict[str, str]:
    """Return the phrases of a caption by their role, e.g. {"colour1": "red", "background": "by the shore"}.

    Articles are left out. Two captions with equal phrases are equal.

    Raises:
        NotACaption: the text does not match the grammar's pattern. Unlike `parse`, this does not look for
            contradictions between phrases.
    """
    match = _CAPTION.fullmatch(text)
    if match is None:
        raise NotACaption(f"not a caption of the micro grammar: {text!r}")
    found = match.groupdict()
    setting = _SETTING_PATTERN.fullmatch((found.pop("front") or found.pop("end") or "").strip())
    found |= setting.groupdict() if setting else {}
    found["fronted"] = "yes" if match["front"] else None
    return {name: phrase for name, phrase in found.items() if phrase and phrase not in ("a", "an") and name != "end"}


def _inverse(table: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {phrase: value for value, phrases in table.items() for phrase in phrases}


def _any_of(phrases: Mapping[str, object] | tuple[str, ...]) -> str:
    """Return a pattern that matches one of the phrases, longest first."""
    return "|".join(re.escape(p) for p in sorted(phrases, key=len, reverse=True))


_RELATIONS, _POSITIONS = _inverse(grammar.RELATION), _inverse(grammar.POSITION)
_SIZES = _inverse(grammar.SIZE)
_PLURALS = {grammar.plural(noun): noun for noun in world.THINGS}
_NUMBERS = {word: number for number, word in grammar.NUMBER.items()}
# in the order in which the grammar mentions them
_SETTING = {
    "background": _inverse(grammar.BACKGROUND),
    "weather": _inverse(grammar.WEATHER),
    "lighting": _inverse(grammar.LIGHTING),
}
_MATERIALS = tuple(m for m in world.MATERIALS if m != "plain")


def _np_pattern(suffix: str) -> str:
    return (
        rf"(?P<number{suffix}>an?|{_any_of(_NUMBERS)}) "
        rf"(?:(?P<size{suffix}>{_any_of(_SIZES)}) )?"
        rf"(?:(?P<material{suffix}>{_any_of(_MATERIALS)}) )?"
        rf"(?:(?P<colour{suffix}>{_any_of(world.COLOURS)}) )?"
        rf"(?P<noun{suffix}>{_any_of(tuple({*world.THINGS, *_PLURALS}))})"
    )


_PHRASES = _any_of(tuple(phrase for table in _SETTING.values() for phrase in table))
_CAPTION = re.compile(
    rf"(?:(?P<front>(?:{_PHRASES})(?: (?:{_PHRASES}))*), )?"
    rf"(?P<opening>{_any_of((*(o for o in grammar.OPENING if o), 'there are '))})?"
    rf"{_np_pattern('1')}"
    rf"(?: (?P<relation>{_any_of(_RELATIONS)}) {_np_pattern('2')})?"
    rf"(?: (?P<position>{_any_of(_POSITIONS)}))?"
    rf"(?P<end>(?: (?:{_PHRASES}))*)"
)
_SETTING_PATTERN = re.compile(" ?".join(f"(?P<{kind}>{_any_of(table)})?" for kind, table in _SETTING.items()))


def _setting(phrases: str, text: str) -> dict[str, str | None]:
    match = _SETTING_PATTERN.fullmatch(phrases.strip())
    if match is None:
        raise NotACaption(f"the parts of the setting are in another order, or mentioned twice: {text!r}")
    return {kind: _SETTING[kind].get(phrase or "") for kind, phrase in match.groupdict().items()}


def _noun_phrase(found: Mapping[str, str | None], suffix: str, text: str) -> tuple[Thing, int]:
    number, noun = found[f"number{suffix}"], found[f"noun{suffix}"]
    assert number is not None and noun is not None
    count = _NUMBERS.get(number, 1)
    if noun not in (_PLURALS if count > 1 else world.THINGS):
        raise NotACaption(f"{number!r} does not go with {noun!r}: {text!r}")
    words = [w for w in (found[f"{k}{suffix}"] for k in ("size", "material", "colour", "noun")) if w]
    if count == 1 and number != ("an" if words[0][0] in "aeiou" else "a"):
        raise NotACaption(f"{number!r} before {words[0]!r}: {text!r}")
    size = found[f"size{suffix}"]
    return (
        Thing(
            noun=_PLURALS[noun] if count > 1 else noun,
            colour=found[f"colour{suffix}"] or UNNAMED,
            size=_SIZES[size] if size else "medium",
            material=found[f"material{suffix}"] or "plain",
        ),
        count,
    )
