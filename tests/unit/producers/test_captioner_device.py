"""A captioner in time slices: whoever gets the device from it finds no language model awake there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.captions.journal import read_journal
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.producers import captioner
from polygen_stream.ring import Ring
from polygen_stream.roles.role import RoleContext
from tests.helpers.device_queue import Other

LIMIT_S = 60.0


class Sleeper(GrammarSource):
    """A source with a model on the device from its first task until it sleeps. It answers one task at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.awake, self.sleeps = False, 0

    def submit(self, task, with_negative: bool) -> None:
        self.awake = True
        super().submit(task, with_negative)

    def collect(self) -> list[Caption | Dropped]:
        written, self._written = self._written[:1], self._written[1:]
        return written

    def sleep(self) -> int:
        assert not self.pending, "a model sleeps with requests that wait for it"
        self.awake, self.sleeps = False, self.sleeps + 1
        return 0


class Captioner:
    """A captioner's main function, in a thread, with a ring of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        keys = {
            "captions.source": "grammar", "captions.device": "cuda:0", "captions.batch": "32",
            "captions.backlog": "64", "launch.time_slice_s": "0.5", "train.batch": "8", "ring.min_fill": "8",
            "ring.slots": "1024", "captions.target": "200", "train.steps": "40",
        }  # fmt: skip
        keys |= {key.replace("__", "."): value for key, value in settings.items()}
        config = load_config(None, keys)
        self.ring, self.source = Ring.create(ring_spec(config)), Sleeper()
        self.ring.register("captioner", "captioner")
        self.context = RoleContext(config, folder, self.ring, "captioner", None)
        self._problem: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            captioner.main(self.context, lambda _: self.source)
        except BaseException as problem:
            self._problem.append(problem)

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until something is so, or raise what the captioner raised."""
        until = time.monotonic() + LIMIT_S
        while not done():
            assert not self._problem, self._problem
            assert self._thread.is_alive() and time.monotonic() < until
            time.sleep(0.01)

    def render(self) -> None:
        """Commit noise for everything that is wanted."""
        rng, spec = np.random.default_rng(0), self.ring.spec
        while claims := self.ring.claim(range(len(spec.generators)), 64):
            self.ring.commit(claims, rng.integers(0, 256, (len(claims), *spec.image_shape), np.uint8))

    def stop(self) -> None:
        self.context._stopping = True
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive() and not self._problem, self._problem


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    process = Other(tmp_path / "device_locks")
    yield process
    process.kill()


def waits_for_room(ring: Ring) -> bool:
    return any(process["doing"] == "waiting to open a group" for process in ring.stats().processes)


def test_a_captioner_that_waits_for_room_in_the_ring_sleeps_before_it_gives_the_device(tmp_path, other):
    # 16 images of each generator may be wanted: a caption of the first 32 waits, and others are with the model.
    writer = Captioner(tmp_path, ring__max_backlog="16")
    writer.wait(lambda: writer.source.pending > 0 and waits_for_room(writer.ring))
    writer.wait(lambda: other("ask"))
    assert not writer.source.awake, "the device was given away with a model on it"
    assert writer.source.sleeps == 1
    writer.stop()


def test_a_captioner_whose_slice_is_over_sleeps_before_it_gives_the_device(tmp_path, other):
    writer = Captioner(tmp_path)
    writer.wait(lambda: writer.source.awake)
    writer.wait(lambda: other("ask"))
    assert not writer.source.awake
    writer.stop()


def test_no_caption_is_lost_between_two_slices(tmp_path, other):
    writer = Captioner(tmp_path, ring__max_backlog="16", captions__target="40")
    writer.wait(lambda: waits_for_room(writer.ring))
    writer.wait(lambda: other("ask"))
    other("give")

    def rendered() -> bool:
        writer.render()
        return writer.ring.stats().finished_opening

    writer.wait(rendered)
    written = [entry.task.task_id for entry in read_journal(tmp_path / "journal.jsonl")]
    assert written == list(range(40)) and writer.ring.stats().groups_opened == 40
