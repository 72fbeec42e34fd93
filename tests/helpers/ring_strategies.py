"""What hypothesis may think of: specs of small rings, groups to open, who does it and when it dies."""

from __future__ import annotations

from hypothesis import strategies as st
from small_rings import small_spec

from polygen_stream.ring import Kind, Member, RingSpec

GENERATORS = ("one", "two", "three")
HERE = "here"  # the process of the test, which cannot die but needs nobody to wake up
SEATS = st.sampled_from([HERE, "b", "c"])  # each of the others is taken by one process after the other
TEXTS = [f"{colour} {thing}" for colour in ("red", "blue", "grün", "grey") for thing in ("cup", "owl")]
TEXTS.append("a caption that is longer than 32 bytes")
INDEX = st.integers(0, 10**6)  # taken modulo the length of a list that is not known in advance
RARELY = st.sampled_from([False, False, False, False, True])
DIE_AT = st.sampled_from([*[None] * 150, *range(1, 26)])  # one call in seven ends in the middle
WINDOWS = st.sampled_from([(0.0, 0.0), (0.5, 2.0), (1.0, 3.0), (2.0, 4.0)])  # samples per insert, error buffer
AGES = st.sampled_from([0, 0, 4, 12])


@st.composite
def specs(draw) -> RingSpec:
    most = draw(st.integers(0, 3))
    ratio, buffer = draw(WINDOWS)
    if 0 < most < ratio:
        ratio = 1.0  # more could never be reached
    return small_spec(
        generators=GENERATORS,
        slots=draw(st.integers(6, 24)),
        groups=draw(st.integers(3, 10)),
        seed=draw(st.integers(0, 2**32)),
        min_fill=draw(st.integers(1, 2)),
        max_times_sampled=most,
        max_age=draw(AGES),
        max_backlog=draw(st.sampled_from([0, 0, 0, 4, 7])),
        samples_per_insert=ratio,
        error_buffer=buffer,
        max_retries=draw(st.sampled_from([2, 1, 0])),
        max_open=draw(st.sampled_from([8, 8, 8, 4, 2, 0])),
    )


Request = tuple[Kind, str, str | None, list[tuple[int, int]]]  # a captioner's wish; members: (generator, polarity)


@st.composite
def requests(draw) -> Request:
    """At least one positive, negatives only in a pair."""
    kind = draw(st.sampled_from((Kind.PLAIN, Kind.PAIR)))
    caption, negative = draw(st.sampled_from(TEXTS)), draw(st.sampled_from(TEXTS))
    if caption == negative:
        negative += "!"
    generators = draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
    polarities = [draw(st.integers(0, 1)) if kind is Kind.PAIR else 0 for _ in generators]
    if 0 not in polarities:
        polarities[-1] = 0
    return kind, caption, negative if kind is Kind.PAIR else None, list(zip(generators, polarities, strict=True))


def members_of(number: int, wish: Request) -> list[Member]:
    """With a seed of 64 bits for each image, all different."""
    return [Member(generator, polarity, 2**64 - 1 - 10 * number - i) for i, (generator, polarity) in enumerate(wish[3])]
