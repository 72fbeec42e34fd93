"""Closed word classes, as stems, by which the axes and `verify` recognise edits."""

from __future__ import annotations

from polygen_stream.captions.verification.words import stem_set

COLOUR = stem_set(
    "red orange yellow green blue purple violet pink white black brown grey tan beige gold golden silver turquoise "
    "teal cyan magenta maroon navy cream crimson scarlet lavender ivory bronze olive indigo amber blonde brunette "
    "colorful monochrome multicolored dark light pale bright"
)
SIZE = stem_set(
    "small smaller smallest little tiny mini miniature big bigger biggest large larger largest huge giant gigantic "
    "enormous massive tall taller short shorter long longer wide narrow thick thin medium oversized"
)
MATERIAL = stem_set(
    "wood wooden metal metallic steel iron brass copper plastic glass stone brick concrete cement marble ceramic "
    "porcelain clay leather fabric cloth cotton wool woolen silk velvet denim fur furry paper cardboard rubber "
    "straw wicker bamboo ice tile tiled granite chrome foam knitted striped plaid checkered spotted polka dotted "
    "smooth rough"
)
COUNT = stem_set(
    "no one two three four five six seven eight nine ten eleven twelve dozen single solitary lone pair couple trio "
    "several many few multiple numerous group bunch herd crowd flock only both zero hundreds"
)
LIGHTING = stem_set(
    "day daytime night nighttime morning noon midday afternoon evening dusk dawn sunset sunrise twilight midnight "
    "sunlit sunlight moonlight moonlit daylight candlelight candlelit lamplight backlit shadow shade shaded bright "
    "dim dimly dark darkness lit neon spotlight lamp glowing golden hour light lights lighting overcast soft harsh "
    "warm cool"
)
WEATHER = stem_set(
    "rain rainy raining rainfall drizzle snow snowy snowing snowfall snowstorm blizzard sun sunny sunshine clear "
    "cloudy clouds overcast fog foggy mist misty haze hazy storm stormy thunder lightning wind windy breeze breezy "
    "hail sleet frost frosty icy freezing hot warm cold humid dry wet spring summer autumn fall winter season day "
    "weather heavy gentle sky blue grey dark"
)
VIEWPOINT = stem_set(
    "above below overhead aerial bird's eye view side front back rear behind close up closeup wide angle shot "
    "distance distant far afar low high profile top down ground level perspective macro panoramic seen viewed "
    "photographed from"
)
STYLE = stem_set(
    "photo photograph picture image painting painted drawing drawn sketch sketched watercolor oil cartoon "
    "illustration illustrated print poster mural render rendering 3d pixel art anime comic abstract realistic "
    "impressionist cubist vintage retro modern minimalist charcoal pencil ink collage mosaic sculpture polaroid "
    "black white sepia style"
)
RELATION = stem_set(
    "on in under over above below beside behind between near next to left right front inside outside around against "
    "beneath underneath atop along across through into onto off top of by at with without far away from opposite "
    "among beyond toward towards past up down out edge side middle center back"
)
CAUSAL_LINKS = stem_set("because due caused causing cause thanks resulting result")
STATE = stem_set(
    "open opened closed shut empty full filled broken cracked torn intact whole wet dry soaked dusty clean dirty "
    "muddy messy neat tidy ripe rotten fresh melted frozen burnt burning raw cooked baked sliced peeled folded "
    "rolled crumpled inflated deflated lit unlit awake asleep sleeping sleepy alive dead blooming wilted dried "
    "rusty shiny new old worn young happy sad angry calm scared tired excited starving bare covered decorated plain "
    "locked unlocked tied loose upright tipped upside parked moving still crowded deserted busy quiet steaming hot "
    "cold warm flat tangled shaved hairy bald barefoot dressed"
)

PREPOSITIONS = stem_set(
    "on in under over above below behind between near at against inside outside around beneath underneath atop "
    "along across through into onto off by with without from of for toward towards past up down to during before "
    "after among"
)
PLACE_PREPOSITIONS = stem_set(
    "in on at against inside outside along across through by near behind before under amid among"
)
CONNECTIVES = PREPOSITIONS | stem_set("and or while as has have next front")
ATTRIBUTES = COLOUR | SIZE | MATERIAL | COUNT | stem_set("of and")
ACTION = stem_set(
    "sit stand lie walk run jump fly swim eat drink sleep play ride drive hold carry throw catch kick hit push pull "
    "climb dance sing read write cook bake paint draw look watch chase follow lead feed pet hug kiss wash brush "
    "clean cut open close bite lick bark roll float sail surf ski skate swing dive dig sniff rest crouch kneel lean "
    "wait pose smile laugh cry yawn stretch wave point reach graze perch hang pour lift drop build fix wear put "
    "take give hide"
)
