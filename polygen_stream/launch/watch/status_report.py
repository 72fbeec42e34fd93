"""What `polygen-stream status` prints for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polygen_stream.launch.summary import EVALUATION_KEYS
from polygen_stream.launch.watch.live_view import clock, grid, number, recent_wait, share


def show_status(found: dict, console: Console) -> None:
    """Print how a run stands, as run_status.to_dict has it."""
    running = found["state"] == "running"
    since = f" for {clock(found['seconds'])}" if running else ""
    console.print(Text(f"{found['name']} {found['state']}{since}   {found['run']}", style="bold"), soft_wrap=True)
    if found["degraded"]:
        console.print(Text(found["degraded"], style="bold red"), soft_wrap=True)
    if found["starting"]:
        console.print(Text(found["starting"]), soft_wrap=True)
    for each in found["missing"]:
        said = f"no {each['what']}: {each['why']}; to make up for it: {each['command']}"
        console.print(Text(said, style="bold red"), soft_wrap=True)
    for table in (_training(found), _ring(found), _generators(found), _processes(found)):
        console.print()
        console.print(table)
    if found["ring_file"]:
        console.print(Text(f"images of the ring: {found['ring_file']}"), soft_wrap=True)
    for said in found["draw_bounds"]:
        console.print(Text(f"draws: {said}"), soft_wrap=True)
    if found["events"]:
        console.print()
    for event in found["events"]:
        what = {name: value for name, value in event.items() if name not in ("time", "event")}
        said = ", ".join(f"{name} {value}" for name, value in what.items())
        console.print(Text(f"{event['time']}  {event['event']}: {said}"), soft_wrap=True)


def _training(found: dict) -> Table:
    table, checkpoint, eta = grid(), found["checkpoint"], found["eta_s"]
    table.add_row("step", f"{found['step']} / {found['steps']}")
    table.add_row("ETA", found["ending"] or ("-" if eta is None else clock(eta)))
    table.add_row("steps/s", f"{found['steps_per_second']:.2f}")
    table.add_row("loss", number(found["loss"], ".4f"))
    table.add_row("p (hard negatives)", number(found["p"], ".3f"))
    table.add_row("trainer waits", recent_wait(found["trainer_wait_share"], found["trainer_wait_steps"]))
    if (first := found["trainer_first_batch_wait_s"]) is not None:
        after = share(found["trainer_wait_share_after_first_batch"])
        table.add_row("trainer waited", f"{first:.1f} s for the first batch, then {after}")
    table.add_row("producers wait", share(found["producers_wait_share"]))
    if checkpoint is None:
        table.add_row("last checkpoint", "-")
    else:
        age = checkpoint["age_s"]
        table.add_row("last checkpoint", f"step {checkpoint['step']}" + ("" if age is None else f", {clock(age)} ago"))
    table.add_row("scores", _scores(found))
    table.add_row("synthesis", Text(_synthesis(found)))
    restarts = ", ".join(f"{name} {count}" for name, count in found["restarts"].items())
    table.add_row("started again", restarts or "nothing")
    if recorder := found["recorder"]:
        table.add_row("recorder", f"{recorder.get('captions', 0)} captions, {recorder.get('pictures', 0)} pictures")
    return table


def _scores(found: dict) -> Text:
    newest = found["evaluation"]
    if newest is None:
        return Text(found["no_scores"] or "-")
    scores = ", ".join(f"{_called(name)} {100 * score:.1f} %" for name, score in newest["scores"].items())
    return Text(f"step {newest['step']}: {scores}")


def _synthesis(found: dict) -> str:
    policy, wanted = found["synthesis"]["policy"], found["synthesis"]["wanted"]
    if not wanted:
        return policy
    shown = ", ".join(f"{axis} x {row['weight']:.2f} (margin {_margin(row)})" for axis, row in wanted.items())
    return f"{policy}; most wanted: {shown}"


def _margin(row: dict) -> str:
    return f"{row['margin']:.3f}" if "margin" in row else "-"


def _called(score: str) -> str:
    """Return a score of the micro world in words; that of a task as it is, for it may have a path in it."""
    return score.replace("_", " ") if score in EVALUATION_KEYS else score


def _ring(found: dict) -> Table:
    table = Table("captions", "open", "complete", "leased", "drawable", box=None, pad_edge=False)
    for kind, counts in found["captions"].items():
        states = (str(counts[state]) for state in ("open", "complete", "leased"))
        table.add_row(kind, *states, str(found["captions_drawable"][kind]))
    table.add_row("slots", f"{found['slots']['free']} of {found['slots']['all']} free")
    table.add_row("mean reuse", f"{found['mean_reuse']:.2f}")
    return table


def _generators(found: dict) -> Table:
    table = Table("generator", "images", "images/s", "backlog", "failed", "", box=None, pad_edge=False)
    for name, counts in found["generators"].items():
        numbers = (counts["images"], f"{counts['images_per_second']:.1f}", counts["backlog"], counts["failed"])
        table.add_row(Text(name), *map(str, numbers), "given up" if counts["given_up"] else "")
    return table


def _processes(found: dict) -> Table:
    table = Table("process", "pid", "heartbeat", "waits in all", "doing", box=None, pad_edge=False)
    for row in found["processes"]:
        age = row["heartbeat_age_s"]
        cells = (row["label"], str(row["pid"]), "-" if age is None else f"{age:.1f} s", share(row["wait_share"]))
        table.add_row(*map(Text, (*cells, row["doing"])))
    return table
