"""The pure parts: limiter arithmetic, order of draws, undo journal, memory limits, spec."""

from __future__ import annotations

import numpy as np
import pytest
from small_rings import small_spec

from polygen_stream.base.errors import UserError
from polygen_stream.ring import Kind, Ring, ring_bytes
from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import JournalFull
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.memory import allocate, available_bytes
from polygen_stream.ring.sampler import Candidates, Shortage, draw_hash, select
from polygen_stream.ring.undo_journal import Operation


def test_limiter_window():
    limiter = RateLimiter(samples_per_insert=4.0, min_fill=10, error_buffer=8.0)
    assert (limiter.min_difference, limiter.max_difference) == (32.0, 48.0)
    assert not limiter.may_sample(9, 0, 1, finished=False)  # min_fill
    assert limiter.may_sample(10, 0, 8, finished=False)  # 40 - 8 = 32
    assert not limiter.may_sample(10, 0, 9, finished=False)
    assert limiter.may_insert(10, 1, 0)  # (10 + 1 + 1) x 4 = 48
    assert not limiter.may_insert(10, 2, 0)  # groups still being rendered count
    assert limiter.may_insert(10, 2, 0, in_flight=1) and not limiter.may_insert(10, 3, 0, in_flight=1)
    assert limiter.may_insert(10, 2, 4)


def test_limiter_without_ratio_only_waits_for_min_fill():
    limiter = RateLimiter(0.0, 10, 0.0)
    assert limiter.may_sample(10, 10**9, 10**6, finished=False)
    assert limiter.may_insert(10**9, 10**6, 0)
    limiter.check_batch(10**6)


def candidates(rng: np.random.Generator, size: int) -> Candidates:
    return Candidates(
        drawable=rng.random(size) < 0.9,
        kind=rng.integers(0, 2, size).astype("u1"),
        round=rng.integers(0, 3, size),
        task=rng.permutation(size).astype("i8"),
        caption_key=rng.integers(1, max(2, size // 2), size),
        negative_key=rng.integers(-size, -1, size),
    )


@pytest.mark.parametrize("some_first", [False, True])
@pytest.mark.parametrize("size", [3, 40, 200, 2000])
def test_selection_equals_a_full_sort(size, some_first):
    """The sampler sorts only as much as it needs; the plain definition sorts everything."""
    rng = np.random.default_rng(size)
    for step in range(20):
        groups = candidates(rng, size)
        plain, pair = int(rng.integers(0, size // 3 + 1)), int(rng.integers(0, size // 6 + 1))
        hashes = draw_hash(5, step, groups.task).tolist()
        order = sorted(
            np.flatnonzero(groups.drawable).tolist(), key=lambda i: (groups.round[i], hashes[i], groups.task[i])
        )
        first = rng.permutation(size)[: size // 4] if some_first else np.empty(0, np.int64)
        front = [i for i in first.tolist() if groups.drawable[i]]
        front += [i for i in order if i not in front]
        used, pairs, plains = set(), [], []
        for wanted, kinds, chosen, rows in (
            (pair, (1,), pairs, front),
            (plain, (0,), plains, front),
            (plain, (1,), plains, order),
        ):
            for i in rows:
                if len(chosen) < wanted and groups.kind[i] in kinds and i not in pairs + plains:
                    texts = {int(groups.caption_key[i])} | ({int(groups.negative_key[i])} if chosen is pairs else set())
                    if not texts & used:
                        used |= texts
                        chosen.append(i)
        got = select(groups, 5, step, plain, pair, first)
        if len(pairs) < pair:
            assert got == Shortage(Kind.PAIR, pair, len(pairs))
        elif len(plains) < plain:
            assert got == Shortage(Kind.PLAIN, plain, len(plains))
        else:
            assert [part.tolist() for part in got] == [plains, pairs]


def test_draw_hash_is_fixed():
    """Draw logs of old runs must stay replayable: this changes only with a new ring version."""
    assert draw_hash(0, 0, np.array([0, 1, 2**62])).tolist() == [
        13023372208563501658,
        1746018322381135638,
        16022157116046567604,
    ]


def test_an_exception_inside_a_transition_undoes_it():
    control = Control(allocate(ring_bytes(small_spec())), 1.0, small_spec())
    with pytest.raises(KeyError), control.transition(Operation.NOTE) as journal:
        journal.set("slot_state", np.array([1, 2]), np.array([3, 4]))
        journal.set("slot_state", 1, 2)
        journal.add("total", 0, 5)
        raise KeyError
    assert control.columns.slot_state.sum() == 0
    assert control.columns.total[0] == 0
    with control.transition(Operation.NOTE) as journal:  # the mutex was released, the journal is empty
        journal.set("slot_generation", 3, -(2**63))
    assert control.columns.slot_generation[3] == -(2**63)


def test_a_transition_larger_than_the_journal_is_refused_and_undone():
    spec = small_spec()
    control = Control(allocate(ring_bytes(spec)), 1.0, spec)
    with (
        pytest.raises(JournalFull, match=r"NOTE changes more than the \d+ cells"),
        control.transition(Operation.NOTE) as journal,
    ):
        for _ in range(10**6):
            journal.add("total", 0, 1)
    assert control.columns.total[0] == 0


def test_a_signal_handler_that_touches_the_ring_gets_an_error_not_a_deadlock():
    control = Control(allocate(ring_bytes(small_spec())), 5.0, small_spec())
    with control.reading(), pytest.raises(RuntimeError, match="signal handler"), control.reading():
        pass


def fake_system(root, available_kib: int, cgroup: str, files: dict[str, str]):
    proc, cgroups = root / "proc", root / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {available_kib} kB\n")
    (proc / "self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = cgroups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc, cgroups


def test_memory_limit_of_a_parent_cgroup_counts(tmp_path):
    files = {
        "memory.max": "max",
        "memory.current": "0",
        "memory.stat": "inactive_file 0",
        "job/memory.max": "1000",
        "job/memory.current": "700",
        "job/memory.stat": "anon 5\ninactive_file 100\n",
        "job/task/memory.max": "900",
        "job/task/memory.current": "0",
        "job/task/memory.stat": "inactive_file 0",
    }
    available, source = available_bytes(*fake_system(tmp_path, 1, "0::/job/task\n", files))
    assert available == 400
    assert source.endswith("cgroup/job")


def test_memory_limit_of_cgroup_version_1_counts(tmp_path):
    files = {
        "memory/job/memory.limit_in_bytes": "1000",
        "memory/job/memory.usage_in_bytes": "900",
        "memory/job/memory.stat": "total_inactive_file 50\n",
    }
    cgroup = "4:cpu,memory:/job\n0::/\n"
    assert available_bytes(*fake_system(tmp_path, 100, cgroup, files))[0] == 150


def test_memory_available_counts(tmp_path):
    assert available_bytes(*fake_system(tmp_path, 3, "0::/\n", {})) == (3072, "MemAvailable")


def test_a_ring_larger_than_memory_is_refused_before_it_is_allocated():
    with pytest.raises(UserError, match=r"needs \d+ MiB but only \d+ MiB are available"):
        allocate(2**50)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"slots": 0}, "ring.slots is 0"),
        ({"slots": 3}, "may need 4 images but the ring has only 3"),
        ({"min_fill": 17}, "min_fill 17 can never be reached with 16 groups"),
        ({"generators": ("a", "a")}, "listed twice"),
        ({"image_shape": (4, 4)}, "height, width, 3"),
        ({"samples_per_insert": 3.0, "error_buffer": 1.0}, "window of 2.0, narrower than"),
        ({"max_retries": -1}, "must not be negative"),
    ],
)
def test_impossible_specs_are_refused(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        Ring.create(small_spec(**changes))
