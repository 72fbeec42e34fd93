"""The control pages of a mapped ring: header, columns, journal and mutex, and how they are changed.

Every transition is `with control.transition(Operation.X) as journal:`. It holds the mutex, and it is all-
or-nothing: an exception inside rolls it back, and when the process dies inside, the next one that locks
rolls it back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from polygen_stream.ring import memory
from polygen_stream.ring.errors import LockTimeout, LostLock, RingMismatch
from polygen_stream.ring.invariants import broken_invariants
from polygen_stream.ring.kept_images import KeptImages
from polygen_stream.ring.layout import (
    HEADER_BYTES,
    LIBC_BYTES,
    LIBC_OFFSET,
    MAGIC,
    MUTEX_BYTES,
    MUTEX_OFFSET,
    SPEC_OFFSET,
    VERSION,
    Header,
    RingColumns,
    RingLayout,
    Total,
    get_text,
    put_text,
)
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.lock import Acquired, RobustMutex, libc_id
from polygen_stream.ring.pixel_file import PixelFile
from polygen_stream.ring.pixels import MemoryPixels, Pixels
from polygen_stream.ring.processes import pid_namespace, process_of_thread
from polygen_stream.ring.records import ProcessState
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.spec_checks import check_spec
from polygen_stream.ring.undo_journal import Operation, UndoJournal


class Control:
    """One process's mapping of a ring. `columns` may be read under the mutex only (heartbeats apart)."""

    def __init__(self, fd: int, lock_timeout_s: float, spec: RingSpec | None = None) -> None:
        """Map `fd`. With a spec the ring is laid out, otherwise the header is checked (RingMismatch)."""
        self.fd = fd
        self._lock_timeout_s = lock_timeout_s
        self._map = memory.map_all(fd)
        buffer = memoryview(self._map)
        self.spec = _read_header(buffer) if spec is None else spec
        layout = RingLayout.of(self.spec)
        if layout.total_bytes != len(buffer):
            raise RingMismatch(f"the ring has {len(buffer)} bytes, its spec asks for {layout.total_bytes}; {_REMEDY}")
        self.columns = RingColumns.mapped(buffer, layout)
        self.journal = UndoJournal(self.columns, layout)
        self._mutex = RobustMutex(np.frombuffer(buffer, "u1", MUTEX_BYTES, MUTEX_OFFSET))
        self._pid = os.getpid()
        self._words = np.frombuffer(buffer, "i8", len(Header), 0)
        if spec is not None:
            self._lay_out(buffer, layout)
        self.pixels = open_pixels(self.spec, self.columns)
        self._kept_images: KeptImages | None = None

    def _lay_out(self, buffer: memoryview, layout: RingLayout) -> None:
        c = self.columns
        c.slot_owner[:] = -1
        c.slot_group[:] = -1
        c.group_slot[:] = -1
        c.board_step[:] = -1
        c.limit[:] = Limits.of(self.spec).cells()
        self._mutex.initialise()
        put_text(np.frombuffer(buffer, "u1", LIBC_BYTES, LIBC_OFFSET), libc_id())
        text = self.spec.to_json().encode()
        if len(text) > HEADER_BYTES - SPEC_OFFSET:
            raise RingMismatch(f"the ring spec needs {len(text)} bytes in the header; shorten the generator names")
        np.frombuffer(buffer, "u1", len(text), SPEC_OFFSET)[:] = np.frombuffer(text, "u1")
        self._words[Header.VERSION] = VERSION
        self._words[Header.HASH] = layout.digest
        self._words[Header.PID_NAMESPACE] = pid_namespace()
        self._words[Header.SPEC_BYTES] = len(text)
        self._words[Header.MAGIC] = MAGIC  # last: from here on others may attach

    @property
    def kept_images(self) -> KeptImages | None:
        """What an earlier attempt left for groups that are to come; None if nothing. The caller holds the mutex."""
        if isinstance(self.pixels, PixelFile) and self._kept_images is None and self.columns.slot_kept.any():
            self._kept_images = KeptImages(self.pixels, self.columns)
        return self._kept_images

    def close(self) -> None:
        """Drop the mapping. Memory goes back to the system when the last process has done so."""
        self.pixels.close()
        del self.columns, self.journal, self._mutex, self._words, self._map

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the mutex without changing anything."""
        self._acquire()
        try:
            yield
        finally:
            self._mutex.release()

    @contextmanager
    def transition(self, operation: Operation) -> Iterator[UndoJournal]:
        """Hold the mutex for one all-or-nothing change."""
        self._acquire()
        try:
            self.journal.begin(operation)
            yield self.journal
            self.journal.end()
        except BaseException:
            self.journal.roll_back()
            raise
        finally:
            self._mutex.release()

    def next_transition(self, operation: Operation) -> UndoJournal:
        """End the transition that the caller is in and begin another without releasing the mutex."""
        self.journal.end()
        self.journal.begin(operation)
        return self.journal

    def count(self, total: Total, amount: int = 1) -> None:
        """Add to one counter as a transition of its own."""
        with self.transition(Operation.NOTE) as journal:
            journal.add("total", int(total), amount)

    def total(self, total: Total) -> int:
        """Return one of the counters."""
        return int(self.columns.total[total])

    def _acquire(self) -> None:
        assert os.getpid() == self._pid, (
            "this process was forked while attached to the ring; attach again by descriptor"
        )
        acquired = self._mutex.acquire(self._lock_timeout_s)
        if acquired is Acquired.TIMED_OUT:
            raise self._lock_timeout()
        if acquired is Acquired.OWNER_DIED:
            self._recover()

    def _recover(self) -> None:
        """Undo what a dead holder of the mutex left half done, then declare the state consistent."""
        try:
            died_in = self.journal.operation.name
            self.journal.roll_back()
            problems = broken_invariants(self.columns, self.spec)
        except (IndexError, ValueError) as error:
            died_in, problems = "no operation this version knows", [f"a journal that cannot be read ({error})"]
        if problems:
            self._mutex.release()  # without mark_consistent: the state must not be trusted again
            raise LostLock(
                f"a process died in {died_in} and rolling it back left: {problems[0]}; end the run and resume it"
            )
        self.journal.begin(Operation.RECOVER)
        self.journal.add("total", int(Total.RECOVERIES), 1)
        self.journal.end()
        self._mutex.mark_consistent()

    def _lock_timeout(self) -> LockTimeout:
        # Unlocked reads: advisory only, but the holder is the very process that stands still.
        pid = process_of_thread(self._mutex.holder())
        c = self.columns
        rows = np.flatnonzero((c.process_pid == pid) & (c.process_state == ProcessState.LIVE))
        holder = f"pid {pid}" if pid else "an unknown process"
        if rows.size:
            row = int(rows[0])
            holder = f"{get_text(c.process_role[row])} '{get_text(c.process_name[row])}' (pid {pid})"
        return LockTimeout(
            f"the ring's mutex was not granted in {self._lock_timeout_s:g} s: {holder} has held it in "
            f"{self.journal.operation.name} (stopped or in a debugger?); kill that process",
            pid,
        )


def open_pixels(spec: RingSpec, columns: RingColumns, *, read_only: bool = False) -> Pixels:
    """Open the images of a mapped ring. Raises RingMismatch for a file that is not this ring's."""
    return PixelFile(spec, columns, read_only=read_only) if spec.storage else MemoryPixels(columns)


_REMEDY = "start all roles with the same polygen-stream version and let the supervisor pass its descriptor on"


def _read_header(buffer: memoryview) -> RingSpec:
    """Return the spec of a ring made by another process, after all checks. Raises RingMismatch."""
    if len(buffer) < HEADER_BYTES:
        raise RingMismatch(f"the descriptor has {len(buffer)} bytes, a ring at least {HEADER_BYTES}; {_REMEDY}")
    words = np.frombuffer(buffer, "i8", len(Header), 0)
    libc = get_text(np.frombuffer(buffer, "u1", LIBC_BYTES, LIBC_OFFSET))
    for name, theirs, ours in (
        ("magic number", int(words[Header.MAGIC]), MAGIC),
        ("version", int(words[Header.VERSION]), VERSION),
        ("PID namespace", int(words[Header.PID_NAMESPACE]), pid_namespace()),
        ("C library", libc, libc_id()),
    ):
        if theirs != ours:
            raise RingMismatch(f"ring {name} is {theirs!r}, this process has {ours!r}; {_REMEDY}")
    text = bytes(buffer[SPEC_OFFSET : SPEC_OFFSET + int(words[Header.SPEC_BYTES])])
    try:
        spec = RingSpec.from_json(text.decode())
        check_spec(spec)
        digest = RingLayout.of(spec).digest
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # any text may stand there
        raise RingMismatch(f"the ring's spec cannot be read ({error}); {_REMEDY}") from error
    if digest != int(words[Header.HASH]):
        raise RingMismatch(f"ring spec hash is {int(words[Header.HASH])}, this process computes {digest}; {_REMEDY}")
    return spec
