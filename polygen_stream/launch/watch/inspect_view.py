"""What `polygen-stream inspect` prints: tables for people, JSON for programs."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polygen_stream.launch.watch.inspect_client import Inspected
from polygen_stream.ring.inspection import Inspection
from polygen_stream.ring.stats import RingStats

BAR = 24  # characters of the longest bar


def to_json(inspected: Inspected, found: Inspection) -> str:
    """Return a ring's state as JSON."""
    return json.dumps({"title": inspected.title, "running": inspected.running, **found.to_dict()}, indent=2)


def show(inspected: Inspected, found: Inspection, console: Console) -> None:
    """Print a ring's state as tables."""
    stats = found.stats
    console.print(Text(f"{inspected.title}, step {stats.step}", style="bold"))
    for table in (_captions(found), _generators(found), _reuse(found), _numbers(found), _owners(found)):
        console.print()
        console.print(table)


def _captions(found: Inspection) -> Table:
    states = list(next(iter(found.stats.groups.values())))
    table = _table("captions", *states, "drawable")
    for kind, counts in found.stats.groups.items():
        table.add_row(kind, *(str(counts[state]) for state in states), str(found.stats.drawable[kind]))
    return table


def _generators(found: Inspection) -> Table:
    states = list(next(iter(found.members.values())))
    table = _table("generator", *states, "committed", "given up", "last failure")
    for name, counts in found.members.items():
        table.add_row(
            Text(name),
            *(str(counts[state]) for state in states),
            str(found.stats.images_committed[name]),
            str(found.stats.failed[name]),
            Text(found.stats.last_failure.get(name, "")),
        )
    return table


def _reuse(found: Inspection) -> Table:
    """Complete captions by draws so far, in bins 0, 1, 2-3, 4-7, 8-15, ..."""
    bins: dict[int, list[int]] = {}
    for place, times in enumerate(found.reuse.values()):
        for drawn, groups in times.items():
            bins.setdefault(drawn.bit_length(), [0] * len(found.reuse))[place] += groups
    table = _table("draws", *found.reuse, "")
    most = max(map(sum, bins.values()), default=1)
    for width in range(max(bins, default=-1) + 1):
        counts = bins.get(width, [0] * len(found.reuse))
        first, last = (1 << width) >> 1, (1 << width) - 1
        label = str(first) if first == last else f"{first}-{last}"
        table.add_row(label, *map(str, counts), "█" * round(BAR * sum(counts) / most))
    return table


def _numbers(found: Inspection) -> Table:
    stats = found.stats
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_row("slots", f"{found.slots - stats.free_slots} of {found.slots} used")
    table.add_row("caption rows", f"{found.group_rows - stats.free_groups} of {found.group_rows} used")
    table.add_row(
        "captions",
        f"{stats.groups_opened} opened, {stats.groups_completed} completed, {stats.evicted} evicted, "
        f"{stats.dropped} dropped, {stats.degraded} degraded, {stats.demoted} demoted",
    )
    table.add_row("draws", f"{stats.draws} of {stats.samples} captions, each {stats.mean_reuse:.1f} times")
    for said in stats.draw_bounds:
        table.add_row("", said)
    table.add_row("limiter", _limiter(stats))
    table.add_row(
        "pins", f"{stats.pinned} captions kept from eviction, {stats.pins_refused} refused, {stats.pins_gone} too late"
    )
    for state, age in found.oldest.items():
        table.add_row(f"oldest {state}", f"task {age.task_id}: {age.openings} openings and {age.steps} steps ago")
    table.add_row("waits", f"{stats.open_wait_s:.1f} s to open captions, {stats.draw_wait_s:.1f} s to draw")
    table.add_row(
        "deaths",
        f"{stats.reaped} members taken back, {stats.recoveries} times the mutex, {stats.stale_commits} stale commits",
    )
    return table


def _limiter(stats: RingStats) -> str:
    limiter = stats.limiter
    fill = f"{stats.groups_completed} completed of min_fill {limiter['min_fill']:g}"
    if not limiter["samples_per_insert"]:
        return f"off (samples_per_insert = 0); {fill}"
    low, high, now = limiter["min_difference"], limiter["max_difference"], limiter["difference"]
    place = min(BAR, max(0, round(BAR * (now - low) / (high - low))))
    return (
        f"{low:g} [{'-' * place}|{'-' * (BAR - place)}] {high:g}, now {now:g} "
        f"(samples_per_insert {limiter['samples_per_insert']:g}; left: draws wait, right: opening waits); {fill}"
    )


def _owners(found: Inspection) -> Table:
    table = _table("process", "pid", "alive", "heartbeat", "waits", "writing", "leases", "doing")
    for owner in found.owners:
        worked = owner.wait_s + owner.busy_s
        table.add_row(
            Text(owner.name if owner.name.startswith(owner.role) else f"{owner.role} {owner.name}"),
            str(owner.pid),
            {True: "yes", False: "no", None: "?"}[owner.alive],
            f"{owner.heartbeat_age_s:.1f} s",
            f"{100 * owner.wait_s / worked:.0f} %" if worked else "-",
            str(owner.writing),
            str(owner.leases),
            Text(owner.doing),
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name in ("", "doing", "last failure") else "right")
    return table
