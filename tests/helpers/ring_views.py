"""What tests share that look at the images of a draw: groups with several images of each text, and what was drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from small_rings import pictures, render

from polygen_stream.ring import Draw, DrawnGroup, DrawRequest, Kind, Member, Ring
from polygen_stream.ring.records import Claim, Polarity

VIEWS = 4
T_PLUS, T_MINUS = Polarity.POSITIVE, Polarity.NEGATIVE
ROOM = {"slots": 160, "groups": 20, "members": 2 * VIEWS, "max_open": 20}


def member_seed(task: int, polarity: int, view: int) -> int:
    return 1000 * task + 100 * polarity + view


def open_views(ring: Ring, task: int, kind: Kind = Kind.PAIR, views: int = VIEWS) -> None:
    """A group with `views` images of each of its texts, which its two generators make in turn."""
    polarities = (T_PLUS, T_MINUS) if kind is Kind.PAIR else (T_PLUS,)
    members = [Member(v % 2, polarity, member_seed(task, polarity, v)) for polarity in polarities for v in range(views)]
    ring.open_group(
        task, kind, f"caption {task}", f"negative {task}" if kind is Kind.PAIR else None, members, timeout_s=0.0
    )


def filled(new_ring, pairs: Iterable[int] = range(16), plain: Iterable[int] = (), **changes) -> Ring:
    ring = new_ring(**(ROOM | {"images_per_draw": 2} | changes))
    for task in pairs:
        open_views(ring, task)
    for task in plain:
        open_views(ring, task, Kind.PLAIN)
    render(ring)
    return ring


def known_pictures(tasks: Iterable[int]) -> dict[bytes, tuple[int, int, int]]:
    """(task, polarity, view) of every picture."""
    found = {}
    for task in tasks:
        for polarity in (T_PLUS, T_MINUS):
            for view in range(8):
                claim = Claim(0, 0, 0, 0, task, 0, polarity, member_seed(task, polarity, view), "")
                found[pictures([claim]).tobytes()] = (task, int(polarity), view)
    return found


KNOWN = known_pictures(range(40))


def images(ring: Ring, group: DrawnGroup) -> dict[tuple[int, int], tuple[int, ...]]:
    """{(task, polarity): views} of what a draw took of a group, read from the pictures themselves."""
    views = defaultdict(list)
    for slots, generators in (
        (group.positive_slots, group.positive_generators),
        (group.negative_slots, group.negative_generators),
    ):
        for picture, generator in zip(ring.read(slots), generators, strict=True):
            task, polarity, view = KNOWN[picture.tobytes()]
            assert task == group.task_id and generator == view % 2
            views[task, polarity].append(view)
    return {text: tuple(found) for text, found in views.items()}


def seen(ring: Ring, groups: Iterable[DrawnGroup]) -> list[tuple]:
    """What a trainer sees of groups."""
    return [(g.task_id, g.kind, g.caption, g.negative, images(ring, g)) for g in groups]


def take(ring: Ring, request: DrawRequest) -> Draw:
    draw = ring.draw(request, 0.0)
    ring.release(draw)
    return draw


def assert_each_image_comes_before_any_again(history: dict[tuple[int, int], list], views: int, per_draw: int) -> None:
    for text, draws in history.items():
        assert all(len(found) == len(set(found)) == per_draw for found in draws), text
        for start in range(0, len(draws), views // per_draw):
            shown = [view for found in draws[start : start + views // per_draw] for view in found]
            assert len(shown) == len(set(shown)), f"{text}: {draws}"
