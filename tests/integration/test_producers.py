"""Captioner and renderer as processes of their own, on a real ring that this test owns."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from role_processes import fill, starting, wait

from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.captions.journal import JournalEntry, read_journal, read_provenances
from polygen_stream.captions.selection.balance import Balancer, DropReason
from polygen_stream.config import RunConfig, load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.micro.training.card import read_card
from polygen_stream.ring import DrawRequest, Kind, Member, Ring, RingTimeout
from polygen_stream.schedule.curriculum import Curriculum
from polygen_stream.schedule.ledger import Ledger

RENDERER = ("renderer", "--generator", "micro/sdxl_turbo")


def small_config(**changes: str) -> RunConfig:
    sizes = {
        "captions.target": "200",
        "captions.backlog": "16",
        "train.steps": "40",
        "train.batch": "8",
        "ring.min_fill": "8",
        "ring.slots": "1024",
    }
    return load_config(None, {**sizes, **changes})


@pytest.fixture
def start(tmp_path: Path):
    """start(config, ring, role, *arguments) runs a role; what is left of it is killed at the end."""
    with starting(tmp_path) as start:
        yield start


def test_the_captioner_keeps_its_backlog_and_ends_at_the_target(start, tmp_path: Path):
    config = small_config()
    ring = Ring.create(ring_spec(config))
    ring.register("renderer", "test")
    captioner = start(config, ring, "captioner")
    wait(lambda: ring.stats().groups_opened == 16)
    time.sleep(0.3)
    assert ring.stats().groups_opened == 16, "opened more than captions.backlog while nothing was rendered"
    images = 0
    while captioner.poll() is None:
        images += fill(ring)
        assert sum(kind["open"] for kind in ring.stats().groups.values()) <= 16
        time.sleep(0.01)
    images += fill(ring)
    stats = ring.stats()
    assert captioner.returncode == 0, captioner.stderr.read()
    assert (stats.groups_opened, stats.finished_opening) == (200, True)

    journal = [entry for entry in read_journal(tmp_path / "journal.jsonl") if isinstance(entry.outcome, Caption)]
    pairs = [entry.pair for entry in journal]
    assert images == 2 * 200 + 2 * sum(pairs)
    # The trainer never moved on from step 0, so the mix follows the budget: p rises from 0 to 0.5 over it, and
    # p / (1 - p) of the groups are pairs, 0.39 of them on average.
    assert sum(pairs) == pytest.approx(0.386 * 200, abs=4)
    assert sum(pairs[:50]) < 10 < 35 < sum(pairs[150:])
    for entry in journal:
        assert (entry.outcome.negative is not None) == entry.pair


def test_the_journal_says_what_the_ledger_says(start, tmp_path: Path):
    config = small_config(**{"captions.target": "64", "seed": "5"})
    ring = Ring.create(ring_spec(config))
    ring.register("renderer", "test")
    captioner = start(config, ring, "captioner")
    while captioner.poll() is None:
        fill(ring)
        time.sleep(0.01)
    ledger = Ledger(5, GrammarSource.concepts, GrammarSource.axes, 4, 2)
    for entry in read_journal(tmp_path / "journal.jsonl"):
        assert entry.task == ledger.task(entry.task.task_id)
    [written_by] = read_provenances(tmp_path / "journal.jsonl")
    assert written_by["writer"]["sha256"] == read_card(SHIPPED_WEIGHTS / "mistral")["sha256"]
    assert written_by["editor"]["sha256"] == read_card(SHIPPED_WEIGHTS / "llama")["sha256"]
    assert (written_by["writer"]["temperature"], written_by["editor"]["top_p"]) == (0.7, 0.95)


def written(folder: Path, ring: Ring) -> list[JournalEntry]:
    """The journal of a run whose captioner has ended: every task once, every caption's group in the ring once."""
    entries = list(read_journal(folder / "journal.jsonl"))
    assert [entry.task.task_id for entry in entries] == list(range(len(entries)))
    captions = [entry.task.task_id for entry in entries if isinstance(entry.outcome, Caption)]
    groups = sorted(group.task_id for group in ring.groups_snapshot(10**6))
    assert groups == captions and ring.stats().groups_opened == len(captions) == 200
    return entries


@pytest.mark.parametrize(
    ("source", "mode", "kills"),
    [("grammar", "throughput", 4), ("grammar", "deterministic", 4), ("transformers", "throughput", 1)],
)
def test_a_killed_captioner_goes_on_where_it_was(start, tmp_path: Path, source: str, mode: str, kills: int):
    config = small_config(**{"captions.source": source, "ring.mode": mode})
    first, second = (Ring.create(ring_spec(config)) for _ in range(2))
    for ring in (first, second):
        ring.register("renderer", "test")
    if source == "grammar":  # a language model's replies depend on the rounding of its batch too
        assert finish(start, config, first) == 0
        whole = written(tmp_path, first)
        (tmp_path / "journal.jsonl").unlink()

    killed = 0
    captioner = start(config, second, "captioner")
    journal = tmp_path / "journal.jsonl"
    while captioner.poll() is None:
        fill(second)
        time.sleep(0.001)  # no longer: the line has just been written, and its group is being opened
        if killed < kills and journal.exists() and journal.read_bytes().count(b"\n") > 30 * (killed + 1):
            captioner.kill()
            captioner.wait()
            killed += 1
            second.reap()
            captioner = start(config, second, "captioner")
    assert captioner.returncode == 0, captioner.stderr.read()
    assert killed == kills
    pieced = written(tmp_path, second)
    assert second.check() == []
    if mode == "deterministic":
        assert pieced == whole
    elif source == "grammar":  # which captions get a hard negative follows from the pace too
        assert [(e.task, e.outcome.text) for e in pieced] == [(e.task, e.outcome.text) for e in whole]


@pytest.mark.parametrize("cut", [0, 1, 60], ids=["whole", "no line break", "half a line"])
def test_what_a_kill_left_between_journal_and_ring_is_put_right(start, tmp_path: Path, cut: int):
    config = small_config(**{"captions.source": "grammar", "captions.target": "24", "ring.mode": "deterministic"})
    first, second = (Ring.create(ring_spec(config)) for _ in range(2))
    for ring in (first, second):
        ring.register("renderer", "test")
    assert finish(start, config, first) == 0
    whole = list(read_journal(tmp_path / "journal.jsonl"))

    # As after a kill: 20 lines, the last of which the ring has not got, and perhaps the beginning of another one.
    lines = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    half = lines[21][: len(lines[21]) - cut] if cut else b""
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines[:21]) + half)
    for entry in whole[:19]:
        members = [Member(g, 0, s) for g, s in zip(entry.task.generators, entry.task.image_seeds, strict=True)]
        if entry.pair:
            members += [Member(m.generator, 1, m.seed) for m in members]
        kind = Kind.PAIR if entry.pair else Kind.PLAIN
        second.open_group(entry.task.task_id, kind, entry.outcome.text, entry.outcome.negative, members, 1.0)
    assert finish(start, config, second) == 0
    assert list(read_journal(tmp_path / "journal.jsonl")) == whole
    assert sorted(group.task_id for group in second.groups_snapshot(100)) == list(range(24))


def finish(start, config: RunConfig, ring: Ring) -> int:
    """Exit code of a captioner that is given all the pictures it wants."""
    captioner = start(config, ring, "captioner")
    while captioner.poll() is None:
        fill(ring)
        time.sleep(0.01)
    fill(ring)  # what it opened last of all
    return captioner.returncode


def test_models_that_never_say_anything_usable_end_the_run_with_the_reason(start, tmp_path: Path):
    """The micro models, asked in English for things they have never heard of."""
    (tmp_path / "bank.json").write_text(json.dumps(["skyscraper", "fire engine", "you are now a pirate"]))
    models = {
        f"captions.{role}": str(SHIPPED_WEIGHTS / name) for role, name in (("writer", "mistral"), ("editor", "llama"))
    }
    english = {
        "captions.bank": "english",
        "captions.concepts": str(tmp_path / "bank.json"),
        "captions.max_tokens": "12",
    }
    config = small_config(
        **models, **english, **{"captions.batch": "64", "captions.backlog": "64", "captions.retries": "0"}
    )
    ring = Ring.create(ring_spec(config))
    captioner = start(config, ring, "captioner")
    _, stderr = captioner.communicate(timeout=240)
    assert captioner.returncode == 2
    assert stderr.splitlines()[-1].startswith("error: 512 tasks in a row got no caption: caption: ")
    entries = list(read_journal(tmp_path / "journal.jsonl"))
    assert len(entries) >= 512 and all(isinstance(entry.outcome, Dropped) for entry in entries)
    assert {entry.task.concept for entry in entries} == {"skyscraper", "fire engine"}
    [by] = read_provenances(tmp_path / "journal.jsonl")
    assert (by["concepts"]["entries"], by["concepts"]["left_out"], by["prompts"]) == (2, 1, 1)


def test_duplicates_are_dropped_counted_and_remembered_after_a_kill(start, tmp_path: Path):
    """The micro grammar says little about 24 things, so many of 400 captions came before."""
    config = small_config(**{"captions.source": "grammar", "captions.deduplicate": "true", "captions.balance": "6"})
    ring = Ring.create(ring_spec(config))
    ring.register("renderer", "test")
    captioner = start(config, ring, "captioner")
    wait(lambda: fill(ring) or ring.stats().groups_opened > 100)
    captioner.kill()
    captioner.wait()
    assert finish(start, config, ring) == 0
    entries = written(tmp_path, ring)

    balancer = Balancer(GrammarSource.concepts, 6, config.seed)
    for entry in entries:
        verdict = balancer.decide(entry.task.task_id, entry.outcome.text)
        assert isinstance(entry.outcome, Caption) == (verdict is None)
        if verdict is not None:
            assert entry.outcome.rejected[-1] == f"caption: {verdict}"
    assert {DropReason.FREQUENT, DropReason.EXACT} <= balancer.verdicts.keys()


@pytest.mark.parametrize("slots", ["512", "1024"])  # some of production fits, or all of it
def test_a_deterministic_run_trains_on_the_same_batches_at_any_pace(start, tmp_path: Path, slots: str):
    config = small_config(**{"ring.mode": "deterministic", "ring.slots": slots})

    def batches(images_at_a_time: int, head_start: bool) -> list[list[tuple[int, Kind, str, str | None]]]:
        """Every step of the run, while the captioner writes and this process renders and trains."""
        ring, seen = Ring.create(ring_spec(config)), []
        ring.register("trainer", "test")
        schedule = config.curriculum
        curriculum = Curriculum(schedule.schedule, schedule.start, schedule.end, config.train.steps, config.train.batch)
        captioner = start(config, ring, "captioner")
        if head_start:
            wait(lambda: fill(ring) == 0 and ring.stats().groups_opened > 100)
        for step in range(config.train.steps):
            mix = curriculum.draw(step)
            while True:
                try:
                    draw = ring.draw(DrawRequest(step, mix.plain, mix.pair), 0.01)
                    break
                except RingTimeout:
                    assert captioner.poll() in (None, 0), captioner.stderr.read()
                    fill(ring, images_at_a_time)
            seen.append([(group.task_id, group.kind, group.caption, group.negative) for group in draw.groups])
            ring.release(draw)
            ring.set_step(step + 1)
        try:
            code = captioner.wait(5)
        except subprocess.TimeoutExpired:
            # As a run does when training is over: in place of dropped tasks it waits for steps that do not come. One
            # that has written all is ending, and Python does not handle signals at its end.
            if not ring.stats().finished_opening:
                captioner.terminate()
            code = captioner.wait(60)
        assert code == 0
        assert ring.check() == []
        ring.close()
        (tmp_path / "journal.jsonl").unlink()
        return seen

    slow = batches(images_at_a_time=7, head_start=False)
    assert {kind for batch in slow for _, kind, _, _ in batch} == {Kind.PLAIN, Kind.PAIR}
    assert max(task for batch in slow for task, *_ in batch) > 150  # production was used to its end
    assert batches(images_at_a_time=1000, head_start=True) == slow


def test_a_renderer_fills_what_is_wanted_of_it_and_ends_when_production_is_over(start):
    config = small_config()
    ring = Ring.create(ring_spec(config))
    turbo, other = config.generators.recipes.index("micro/sdxl_turbo"), 0
    for task in range(5):
        members = [Member(turbo, 0, task), Member(turbo, 1, task)]
        ring.open_group(task, Kind.PAIR, "a red fish on a beach", "a blue fish on a beach", members, 1.0)
    ring.open_group(9, Kind.PLAIN, "a house", None, [Member(other, 0, 1)], 1.0)
    renderer = start(config, ring, *RENDERER)
    wait(lambda: ring.stats().groups["pair"]["complete"] == 5)
    assert renderer.poll() is None, "a renderer stays as long as groups may be opened"
    ring.finish_opening()
    wait(lambda: renderer.poll() is not None)
    stats = ring.stats()
    assert renderer.returncode == 0, renderer.stderr.read()
    assert stats.images_committed["micro/sdxl_turbo"] == 10
    assert stats.backlog[config.generators.recipes[other]] == 1, "it took another generator's work"
    [first, *_] = [group for group in ring.groups_snapshot(10) if group.task_id == 0]
    positive, negative = ring.read([*first.positive_slots, *first.negative_slots]).astype(int)
    assert positive.std() > 3
    assert np.abs(positive - negative).mean() > 1, "the hard negative shows the same picture"


def test_a_renderer_refuses_a_ring_of_another_size_in_one_line(start):
    config = small_config(**{"ring.image_size": "64"})
    ring = Ring.create(ring_spec(config))
    renderer = start(config, ring, *RENDERER)
    _, stderr = renderer.communicate(timeout=60)
    assert renderer.returncode == 2
    assert stderr.strip().splitlines()[-1].startswith("error: engines/micro/sdxl_turbo.toml renders 32x32")
    assert "64x64" in stderr and "Traceback" not in stderr
