"""Recognises spans that say the same in other words, by a table of synonyms.

The table is hand-written for the English of photo captions and is not a thesaurus: a synonym that it lacks counts as an
edit. Its verification benchmark is SugarCrepe++ (docs/captions.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from polygen_stream.captions.verification.words import content_stems, stem_set

# Words that place something without saying how. They may be added, removed, or replace any posture.
PLACEMENT = stem_set(
    "positioned situated located placed set arranged gathered stationed found seen shown visible present depicted "
    "displayed pictured captured featured featuring observed appears appear appearing seems "
    "engaged looking looks"
)
POSTURE = stem_set("sitting standing lying resting posing seated perched leaning parked waiting relaxing")
# Words that do not change what an image shows.
FILLER = stem_set(
    "along together each very really quite just currently picture photo photograph image view scene group set piece "
    "sort kind type of in with and other various while as on"
)

# Each line lists synonyms; the first one stands for the group. Longer phrases are matched before their words.
_GROUPS = r"""
person / individual / human / somebody / someone / man or woman / pedestrian
man / guy / gentleman / male / fellow
woman / lady / female
child / kid / youngster
baby / infant
dog / canine / puppy / pup
cat / feline / kitten / kitty
photo / photograph / picture / image / shot / snapshot
two / a couple of / a pair of / couple / pair / both
three / a trio of / trio
several / multiple / numerous / many / various / a number of / a variety of / a lot of / lots of \
/ a few / few / bunch of
group / bunch / pack / collection / cluster
each other / one another
near / next to / close to / adjacent to / alongside / along side / by / nearby / in close proximity to \
/ next / adjacent / close / beside
near each other / side by side / next to each other / beside each other
along the side of / alongside / on the side of / beside / next to / along
on / on top of / atop / upon
in / inside / within / inside of / into / inside in
before / in front of
behind / at the back of / in back of
under / beneath / underneath / below
above / over / on top
around / surrounding / surrounded by
past / passed / passing
across / over
among / amid / amidst / amongst
edge / side / border
with / having / has / featuring / along with / accompanied by / full of / filled with / containing / contains \
/ including / consisting of / comprising / carrying / and / that has
of / depicting / displaying / showing
wear / in / dressed in / with / wearing / clad in / sporting
large / big / huge / giant / enormous / massive / gigantic
small / little / tiny / mini / miniature
old / elderly / older / aged / elder / vintage / antique
young / youthful
pretty / beautiful / lovely / attractive / nice / nice looking / good looking / cute / adorable
colorful / vibrant / multicolored / multi colored / bright
many colors / various colors
messy / untidy / cluttered
broken / damaged
whole / complete / entire / full
alone / only / solitary / by itself / sole / single / lone
together / jointly
happy / happily / joyful / smiling
empty / vacant
wood / wooden / made of wood
snowy / snow covered / covered in snow / covered with snow
grassy / grass covered / covered with grass
sand / sandy
look at / watch / observe / gaze at / stare at / view / glance at
watch / look on / observe
look / gaze / stare / glance / peer
hold / carry / grasp / grip / clutch
run / gallop / sprint / jog
walk / stroll / wander / march
jump / leap / hop
fly / soar
ski / skiing / on skis / skier
surf / surfing / riding a wave
talk / chat / converse / speak
eat / consume / munch on / chew / feed on / dine on / munch / chew on / have a meal
drink / sip / consume
cook / prepare food / make food
make / prepare / create / execute / perform
do / perform / execute
trick / stunt
cut / slice / chop / sliced / split
try / attempt
use / utilize / operate
ride / riding on / on / travel on
pose / stand
worn / used
travel / go / move / drive / proceed / head
arrive / pull up / approach / come
arrive alongside / pull up along / pull up next to
take place / go on / occur / happen
park / park in
pull / tow / drag
hang / suspended / dangle
lie / recline / lounge / rest
sit / seat / perch
lean / rest / prop / prop up
stick out of / stick out from / protrude from / poke out of / stick out / protrude / poke out
bend / lean / crouch / squat
throw / toss / hurl / pitch
hit / strike / swing at
catch / grab
brush / clean
pet / stroke / pat
drop / fall
begin / start
finish / complete / end
fix / repair
wash / clean / rinse
cover / coat / blanket
decorate / adorn / ornament
road / street / roadway
path / trail / track / walkway
hill / slope / hillside / mountainside
mountain / peak
sea / ocean
beach / shore / seaside / shoreline
forest / woods / wooded area
field / meadow / pasture / grassland
restaurant / eatery / diner
shop / store
house / home
couch / sofa
bike / bicycle
motorcycle / motorbike
plane / airplane / aircraft / jet / aeroplane / jetliner
car / automobile / vehicle
boat / ship / vessel
tv / television / television set
phone / cell phone / cellphone / mobile phone / smartphone
computer / pc
laptop / laptop computer / notebook computer
refrigerator / fridge
stove / oven
pizza slice / slice of pizza
meal / food / dish
dessert / sweets
dough nut / donut / doughnut
vegetable / veggie
city / town / urban
cityscape / city scape / skyline
signal / traffic light / stop light / stoplight
sign / signboard
trash can / garbage can / bin
suitcase / luggage / baggage / bag
clothes / clothing / outfit / attire
hat / cap
glasses / eyeglasses / spectacles
racket / racquet
rock / stone / boulder
background / backdrop
front / forefront / foreground
back / rear / backward / backwards
day / daytime
night / nighttime
half / halves
like / similar to
very / really / extremely / quite / super
other / another / different / others
almost / nearly
because / since / due to / because of
while / as / when / whilst
also / too / as well
large number of / many
"""


def _tables() -> tuple[re.Pattern[str], dict[str, frozenset[str]]]:
    """Return a pattern that finds the longest known wordings, and the groups of each wording."""
    groups: dict[str, set[str]] = {}
    for line in _GROUPS.strip().replace("\\\n", "").splitlines():
        head, *rest = (" ".join(content_stems(wording)) for wording in line.split(" / "))
        for wording in (head, *rest):
            groups.setdefault(wording, set()).add(head)
    known = sorted((wording for wording in groups if wording), key=len, reverse=True)
    pattern = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, known))})(?!\S)")
    return pattern, {wording: frozenset(heads) for wording, heads in groups.items()}


_KNOWN, _HEADS = _tables()


class Meaning(Enum):
    """How the meaning of a span compares with that of the span that replaces it."""

    SAME = "same"
    PARTLY = "one part is reworded and another part is new"
    OTHER = "other"


def compare_spans(removed: Sequence[str], added: Sequence[str]) -> Meaning:
    """Compare the meaning of two spans.

    Args:
        removed: the stems of one span; may be empty.
        added: the stems of the span that replaces it; may be empty.
    """
    if "".join(removed) == "".join(added):
        return Meaning.SAME  # "back flip", "backflip"
    left = _senses(added, removed)
    unmatched, matched = [], False
    for sense in _senses(removed, added):
        partner = next((other for other in left if sense & other), None)
        if partner is None:
            unmatched.append(sense)
        else:
            left.remove(partner)
            matched = True
    # Unmatched filler on one side only does not change the meaning; on both sides it is an edit ("in" -> "on").
    if not (unmatched and left) and all(sense & FILLER for sense in (*unmatched, *left)):
        return Meaning.SAME
    return Meaning.PARTLY if matched and unmatched else Meaning.OTHER


def _senses(words: Sequence[str], opposite: Sequence[str]) -> list[frozenset[str]]:
    """Return the groups of each wording in a span.

    Placements are left out, and postures, too, if the opposite span has a placement.
    """
    empty = PLACEMENT | (POSTURE if PLACEMENT & set(opposite) else frozenset())
    text = " ".join(words)
    senses = [_HEADS[wording] | {wording} for wording in _KNOWN.findall(text) if wording not in empty]
    return [*senses, *(frozenset([word]) for word in _KNOWN.sub("", text).split() if word not in empty)]
