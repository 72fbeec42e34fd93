"""Saving and restoring a ring: what is kept, what starts again, and which files are refused."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from small_rings import open_pair, open_plain, pictures, render, small_spec, tasks

from polygen_stream.base.errors import UserError
from polygen_stream.ring import DrawRequest, PinResult, Ring, RingTimeout
from polygen_stream.ring.layout import VERSION
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.snapshot import save_snapshot


@pytest.fixture
def restored(tmp_path):
    """Saves a ring and restores it; closes what it made. restored(ring, payload=True, tasks=None) -> Ring."""
    rings = []

    def make(ring: Ring, payload: bool = True, tasks=None) -> Ring:
        save_snapshot(ring, tmp_path / "ring", payload, tasks)
        rings.append(restore_snapshot(tmp_path / "ring", ring.spec))
        rings[-1].register("test", "second life")
        return rings[-1]

    yield make
    for ring in rings:
        ring.close()


def batch(ring: Ring, step: int, plain: int, pair: int) -> list:
    """A draw as values, pictures included; released again."""
    draw = ring.draw(DrawRequest(step, plain, pair), 0.0)
    drawn = [
        (
            group.task_id,
            group.kind,
            group.caption,
            group.negative,
            group.times_sampled,
            group.positive_generators,
            group.negative_generators,
            ring.read(group.positive_slots + group.negative_slots).tobytes(),
        )
        for group in draw.groups
    ]
    ring.release(draw)
    return drawn


def fill(ring: Ring) -> None:
    for task in range(4):
        open_plain(ring, task)
        open_pair(ring, 10 + task)
    render(ring)


def counters(ring: Ring) -> dict:
    stats = dict(ring.stats())
    del stats["processes"]
    return stats


def test_with_pictures_the_second_life_draws_what_the_first_one_would_have(new_ring, restored):
    ring = new_ring(samples_per_insert=4.0, error_buffer=32.0)
    fill(ring)
    for step in range(3):
        batch(ring, step, 2, 1)
    second = restored(ring)
    assert counters(second) == counters(ring)
    for step in range(3, 6):
        assert batch(second, step, 2, 1) == batch(ring, step, 2, 1)
    assert second.check() == []


def test_without_pictures_everything_is_rendered_again_and_then_drawn_the_same(new_ring, restored):
    ring = new_ring()
    fill(ring)
    batch(ring, 0, 2, 1)
    second = restored(ring, payload=False)
    stats = second.stats()
    assert stats.groups["plain"]["open"] == stats.groups["pair"]["open"] == 4
    assert (stats.groups_opened, stats.groups_completed, stats.samples) == (8, 0, 3)
    assert second.check() == []
    assert render(second) == 24
    assert second.stats().groups_completed == 8
    assert second.check() == []
    for step in range(1, 4):
        assert batch(second, step, 2, 1) == batch(ring, step, 2, 1)


def test_pictures_of_chosen_tasks_only(new_ring, restored):
    ring = new_ring()
    fill(ring)
    second = restored(ring, tasks=[1, 12])
    assert [group.task_id for group in second.groups_snapshot(99)] == [1, 12]
    assert second.stats().groups_completed == 2
    assert sorted(tasks(second.draw(DrawRequest(0, 1, 1), 0.0))) == [1, 12]
    assert render(second) == 24 - 2 - 4
    assert second.check() == []


def test_what_the_old_processes_held_is_given_back(new_ring, restored):
    ring = new_ring()
    open_plain(ring, 0)
    render(ring)
    open_plain(ring, 1)
    ring.claim([0], 1)
    ring.draw(DrawRequest(0, 1, 0), 0.0)
    second = restored(ring)
    stats = second.stats()
    assert stats.backlog == {"one": 1, "two": 1}
    assert stats.groups["plain"] == {"open": 1, "complete": 1, "leased": 0}
    assert [process["name"] for process in stats.processes] == ["second life"]
    claims = second.claim([0], 9)
    assert [claim.generation for claim in claims] == [2], "a slot's generation never starts again"
    assert second.commit(claims, pictures(claims)) == [True]
    assert second.check() == []


def test_degraded_and_demoted_groups_are_counted_once(new_ring, restored):
    """The negatives of a pair and one picture of a plain group failed; its other pictures are rendered again."""
    ring = new_ring(max_retries=0)
    open_plain(ring, 0)
    open_pair(ring, 1)
    for claim in ring.claim([1], 9):
        ring.fail([claim], "dark")
    claims = ring.claim([0], 9)
    positives = [claim for claim in claims if claim.polarity == 0]
    ring.fail([claim for claim in claims if claim.polarity == 1], "dark")
    ring.commit(positives, pictures(positives))
    before = ring.stats()
    assert (before.degraded, before.demoted, before.groups["plain"]["complete"]) == (2, 1, 2)
    second = restored(ring, payload=False)
    reopened = second.stats()
    assert (reopened.degraded, reopened.demoted, reopened.groups["pair"]["open"]) == (0, 0, 1)
    assert second.check() == []
    assert render(second) == 2
    after = second.stats()
    assert (after.degraded, after.demoted, after.groups) == (before.degraded, before.demoted, before.groups)


def test_promises_of_the_old_processes_end_with_them(new_ring, restored):
    ring = new_ring()
    open_plain(ring, 0)
    ring.generator_down(1)
    ring.finish_opening()
    second = restored(ring)
    assert not second.stats().finished_opening
    open_plain(second, 1)
    assert render(second) == 3  # of generator "two" only the new task's: the old one's member had FAILED


def test_holds_stay_on_groups_that_are_rendered_again(new_ring, restored):
    ring = new_ring(max_times_sampled=1)
    fill(ring)
    drawn = ring.draw(DrawRequest(0, 4, 0), 0.0)
    kept = drawn.groups[0]
    assert ring.pin(kept.row, kept.generation) is PinResult.PINNED
    ring.release(drawn)
    second = restored(ring, payload=False)
    assert second.pinned() == [(kept.row, kept.generation)]
    assert second.check() == []
    render(second)
    for task in range(20, 26):  # more than the other used-up groups leave room for
        open_plain(second, task)
    render(second)
    assert kept.task_id in [group.task_id for group in second.groups_snapshot(99)]
    assert second.stats().evicted > 0
    assert second.unpin(kept.row, kept.generation)
    assert second.check() == []


def test_limits_stay_as_they_were_changed(new_ring, restored):
    ring = new_ring(samples_per_insert=4.0, error_buffer=32.0)
    fill(ring)
    batch(ring, 0, 2, 1)
    ring.set_limits(samples_per_insert=2.0, max_age=9)
    second = restored(ring)
    assert second.limits == ring.limits
    assert second.stats().limiter == ring.stats().limiter


def test_a_batch_that_was_broadcast_but_not_received_is_broadcast_again(new_ring, restored):
    ring = new_ring()
    fill(ring)
    ring.broadcast(DrawRequest(3, 2, 1), 2, 0.0)
    ring.receive(3, 0, 2, 0.0)
    second = restored(ring)
    with pytest.raises(RingTimeout):
        second.receive(3, 1, 2, 0.0)
    second.broadcast(DrawRequest(3, 2, 1), 2, 0.0)
    assert len(second.receive(3, 0, 2, 0.0).groups) + len(second.receive(3, 1, 2, 0.0).groups) == 3
    assert second.check() == []


@pytest.mark.parametrize("payload", [True, False])
def test_a_deterministic_ring_goes_on_with_the_same_batches(new_ring, restored, payload):
    """One run draws seven steps; the other is cut after three and restored. Tasks arrive in another order there."""

    def produce(ring: Ring, first: int, last: int, backwards: bool = False) -> None:
        for task in range(first, last):
            open_plain(ring, task)
        render(ring, (1, 0) if backwards else (0, 1))

    def ring_of_window() -> Ring:
        return new_ring(mode="deterministic", min_fill=4, window=4, inserts_per_step=1.0, slots=64)

    whole, cut = ring_of_window(), ring_of_window()
    produce(whole, 0, 7)
    expected = [without_times(batch(whole, step, 2, 0)) for step in range(3)]
    produce(whole, 7, 10)
    expected += [without_times(batch(whole, step, 2, 0)) for step in range(3, 7)]
    produce(cut, 0, 7, backwards=True)
    found = [without_times(batch(cut, step, 2, 0)) for step in range(3)]
    second = restored(cut, payload)
    produce(second, 7, 10, backwards=True)
    found += [without_times(batch(second, step, 2, 0)) for step in range(3, 7)]
    assert found == expected
    assert second.check() == []


def without_times(drawn: list) -> list:
    return [values[:4] + values[5:] for values in drawn]


def test_a_slot_overwritten_while_pictures_are_copied_is_left_out(new_ring, tmp_path, monkeypatch):
    """Between the copy of the columns and that of the pixels, one group is evicted and its slots written again."""
    from polygen_stream.ring import snapshot

    ring = new_ring(slots=4, groups=2, members=2, max_times_sampled=1)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 1, 0), 0.0))
    copy_state = snapshot.copy_state

    def overtaken(control):
        state = copy_state(control)
        open_plain(ring, 2)
        render(ring)
        return state

    monkeypatch.setattr(snapshot, "copy_state", overtaken)
    saved = save_snapshot(ring, tmp_path / "ring", payload=True)
    assert (saved.pictures, saved.overwritten) == (2, 2)
    second = restore_snapshot(tmp_path / "ring", ring.spec)
    stats = second.stats()
    assert stats.groups["plain"] == {"open": 1, "complete": 1, "leased": 0}
    assert second.check() == []
    second.close()


def refusal(path, spec) -> str:
    with pytest.raises(UserError) as caught:
        restore_snapshot(path, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unusable_files_are_refused_and_named(new_ring, tmp_path):
    ring, path, copy = new_ring(), tmp_path / "ring", tmp_path / "copy"
    fill(ring)
    save_snapshot(ring, path, payload=True)
    data = path.read_bytes()

    def refused(content: bytes) -> str:
        copy.write_bytes(content)
        return refusal(copy, ring.spec)

    assert f"{tmp_path / 'none'} does not exist" in refusal(tmp_path / "none", ring.spec)
    for size in (0, 4, 100, len(data) // 2, len(data) - 1):
        assert f"{copy} is truncated or no safetensors file" in refused(data[:size])
    assert "is truncated or no safetensors file" in refused(b"\x80\x05" + bytes(1000))
    assert "but no ring snapshot" in refused((2).to_bytes(8, "little") + b"{}")
    assert f"this polygen-stream reads version {VERSION}" in refused(_with_a_later_version(data))
    assert "its columns have another checksum" in refused(_flipped(data, data.index(b"caption 3")))
    assert "is damaged: pixels of slot" in refused(_flipped(data, len(data) - 1))


def _with_a_later_version(data: bytes) -> bytes:
    """Of as many digits: the header's length is written before it."""
    later = str(VERSION)[:-1] + str((VERSION + 1) % 10)
    return data.replace(f'"version":"{VERSION}"'.encode(), f'"version":"{later}"'.encode())


def _flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_another_spec_is_refused_with_both_values(new_ring, tmp_path):
    save_snapshot(new_ring(), tmp_path / "ring", payload=False)
    message = refusal(tmp_path / "ring", small_spec(max_open=5))
    assert "made with max_open = 16, this run has 5" in message


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(new_ring, tmp_path):
    ring, path = new_ring(), tmp_path / "ring"
    save_snapshot(ring, path, payload=False)
    before = path.read_bytes()
    fill(ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), hard))
    try:
        with pytest.raises(UserError, match=f"cannot write ring snapshot {path}: File too large"):
            save_snapshot(ring, path, payload=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["ring"]


def test_safetensors_itself_reads_a_snapshot(new_ring, tmp_path):
    from safetensors.numpy import load_file

    ring = new_ring()
    fill(ring)
    save_snapshot(ring, tmp_path / "ring", payload=True)
    tensors = load_file(tmp_path / "ring")
    assert (tensors["pictures"] == ring.read(tensors["picture_slot"])).all()
    assert tensors["group_task"].dtype == np.int64
