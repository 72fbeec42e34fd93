"""The ring: the public interface of a shared-memory replay buffer of image groups.

One process (the supervisor) creates it; the others attach to the inherited descriptor. Every decision is made in a
short transition under one robust mutex (control.py); pixels are copied outside of it.

This file is long because it has the whole public interface, mostly docstrings. The work is done by the modules it
calls: groups.py, members.py, drawing.py, board.py, pins.py.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self, TypeVar

import numpy as np

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring import (
    board,
    diagnosis,
    drawing,
    feedback,
    groups,
    members,
    memory,
    pins,
    process_table,
    reaper,
)
from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import CaptionTooLong, RingExhausted, RingTimeout, WaitStopped
from polygen_stream.ring.feedback import Feedback, Measurement
from polygen_stream.ring.inspection import complete_groups
from polygen_stream.ring.invariants import broken_invariants, damaged_slots
from polygen_stream.ring.layout import CHUNK, Total, ring_bytes
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.pixel_file import prepare_file
from polygen_stream.ring.pixels import read_intact
from polygen_stream.ring.records import (
    Claim,
    Draw,
    DrawnGroup,
    DrawRequest,
    DrawSummary,
    GroupRequest,
    Kind,
    Member,
    PinResult,
)
from polygen_stream.ring.set_limits import set_limits
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.spec_checks import check_spec
from polygen_stream.ring.stats import RingStats, ring_stats
from polygen_stream.ring.take_over import Progress, TakenOver, ignore, take_over
from polygen_stream.ring.texts import damaged_texts
from polygen_stream.ring.undo_journal import Operation
from polygen_stream.ring.waiting import wait_for

# The supervisor notices a stuck mutex before the roles do and kills the process that holds it; the roles see no error.
SUPERVISOR_LOCK_TIMEOUT_S = 5.0
ROLE_LOCK_TIMEOUT_S = 30.0


Drawn = TypeVar("Drawn")


class Ring:
    """One process's view of the ring. Safe to use from several threads; never carried across a fork."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.taken_over: TakenOver | None = None  # what its file had from an earlier attempt
        self._row: int | None = None
        self._observer: Callable[[str, float, float], None] | None = None
        self._leases: dict[int, Draw] = {}
        self._lease_numbers = itertools.count(1)

    @classmethod
    def create(
        cls, spec: RingSpec, lock_timeout_s: float = SUPERVISOR_LOCK_TIMEOUT_S, progress: Progress = ignore
    ) -> Self:
        """Allocate a ring. A file that RingSpec.storage names and that is there is taken over with its images.

        Args:
            spec: sizes and rules.
            lock_timeout_s: seconds that this process waits for the mutex.
            progress: as in take_over.read_stored, for a ring with a file.

        Raises:
            UserError: the spec is not valid (spec_checks.py), or there is not enough memory or disk.
            RingMismatch: the file is not that of a ring with this spec.
        """
        ring = cls.allocate(spec, lock_timeout_s)
        if spec.storage:
            try:
                ring.taken_over = take_over(ring._control, progress)
            except BaseException:
                ring.close()
                raise
        return ring

    @classmethod
    def allocate(cls, spec: RingSpec, lock_timeout_s: float) -> Self:
        """Allocate an empty ring. Images that its file may have are not looked at. Raises like `create`."""
        check_spec(spec)
        fd = memory.allocate(ring_bytes(spec))
        try:
            if spec.storage:
                prepare_file(spec)
            return cls(Control(fd, lock_timeout_s, spec))
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, lock_timeout_s: float = ROLE_LOCK_TIMEOUT_S) -> Ring:
        """Map an inherited ring and mark `fd` close-on-exec.

        Raises:
            RingMismatch: the descriptor is no ring that this process may use.
        """
        return cls(Control(fd, lock_timeout_s))

    @property
    def fd(self) -> int:
        """The descriptor, close-on-exec here; hand it to children with subprocess's pass_fds."""
        return self._control.fd

    @property
    def spec(self) -> RingSpec:
        """The sizes and rules of the ring."""
        return self._control.spec

    def close(self) -> None:
        """Unmap the ring and close the descriptor. Claims and leases of this process are left to the reaper."""
        self._control.close()
        os.close(self._control.fd)

    # ---- process table

    def register(self, role: str, name: str) -> None:
        """Enter this process into the process table; needed before claim, commit, fail and draw.

        Raises:
            PolygenError: the process table is full.
        """
        self._row = process_table.register(self._control, role, name)

    def heartbeat(self, doing: str, waited_s: float = 0.0, busy_s: float = 0.0) -> None:
        """Record that this process is alive and what it does. Lock-free.

        Args:
            doing: a few words.
            waited_s: seconds of waiting since the last heartbeat.
            busy_s: seconds of work since the last heartbeat.
        """
        process_table.record_heartbeat(self._control.columns, self._registered(), doing, waited_s, busy_s)
        if self._observer:
            self._observer(doing, waited_s, busy_s)

    def observe(self, observer: Callable[[str, float, float], None]) -> None:
        """Call `observer` with each of this process's heartbeats, in the thread that makes it."""
        self._observer = observer

    def _beat(self, doing: str, heartbeat: Callable[[str], None] | None = None) -> Callable[[], None]:
        """Return what keeps the heartbeat of this process fresh while it waits inside the ring."""
        if heartbeat is not None:
            return lambda: heartbeat(doing)
        return (lambda: self.heartbeat(doing)) if self._row is not None else (lambda: None)

    def _registered(self) -> int:
        if self._row is None:
            raise PolygenError("call ring.register(role, name) before using the ring")
        return self._row

    # ---- producers

    def open_group(
        self,
        task_id: int,
        kind: Kind,
        caption: str,
        negative: str | None,
        members: Sequence[Member],
        timeout_s: float,
        stop: Callable[[], bool] | None = None,
    ) -> int:
        """Reserve a whole group; wait until there is room.

        Args:
            task_id: unique in the run.
            kind: PLAIN or PAIR.
            caption: T+.
            negative: T- of a PAIR, None of a PLAIN group.
            members: its images; at least one is positive.
            timeout_s: longest wait, in seconds.
            stop: asked while waiting; True ends the wait.

        Returns:
            The row of the group.

        Raises:
            CaptionTooLong: a caption has more than spec.caption_bytes bytes; counted, nothing is reserved.
            GeneratorsDown: the generators of all its positives were given up.
            RingTimeout: the wait passed the deadline; the message says what lags.
            WaitStopped: `stop` returned True.
            ValueError: the request contradicts itself.
        """
        [row] = self.open_groups([GroupRequest(task_id, kind, caption, negative, members)], timeout_s, stop)
        return row

    def open_groups(
        self, requests: Sequence[GroupRequest], timeout_s: float, stop: Callable[[], bool] | None = None
    ) -> list[int]:
        """Open several groups, in this order, as many at a time as there is room for. Return their rows.

        One opening of eight groups costs little more than one of a single group. Waits and raises like open_group;
        the deadline is that of all of them, and what was opened before an error stays open.
        """
        control, deadline = self._control, time.monotonic() + timeout_s
        try:
            left = [groups.check_opening(self.spec, request) for request in requests]
        except CaptionTooLong:
            control.count(Total.CAPTIONS_REJECTED)
            raise
        rows: list[int] = []
        while left:
            opened, waited_s = wait_for(
                partial(groups.try_open, control, left),
                max(0.0, deadline - time.monotonic()),
                self._beat("waiting to open a group"),
                stop,
            )
            if waited_s:
                control.count(Total.OPEN_WAIT_NS, int(waited_s * 1e9))
            if opened is None:
                raise RingTimeout(diagnosis.full_ring(control, left[0].task_id, left[0].members, waited_s))
            rows += opened
            left = left[len(opened) :]
        return rows

    def try_open(self, requests: Sequence[GroupRequest]) -> list[int]:
        """Non-blocking open_groups. Return the rows of those, from the first on, that there is room for now."""
        return groups.try_open(self._control, [groups.check_opening(self.spec, request) for request in requests]) or []

    def skip_task(self, task_id: int, timeout_s: float, stop: Callable[[], bool] | None = None) -> None:
        """Record that this task will have no group.

        Draws of a deterministic ring wait until each task has a group or is skipped; `stats().known` counts both. Waits
        and raises like open_group.
        """
        control = self._control
        row, waited_s = wait_for(
            lambda: groups.try_skip(control, task_id), timeout_s, self._beat("waiting to skip a task"), stop
        )
        if row is None:
            raise RingTimeout(diagnosis.full_ring(control, task_id, [], waited_s))

    def finish_opening(self) -> None:
        """Record that no more groups will be opened."""
        with self._control.transition(Operation.NOTE) as journal:
            journal.set("total", int(Total.FINISHED), 1)

    def claim(self, generators: Sequence[int], limit: int) -> list[Claim]:
        """Claim members to render, oldest first, of that generator in `generators` that has the largest backlog.

        Args:
            generators: indices into spec.generators.
            limit: most members to claim; at most CHUNK are.

        Returns:
            The claims; none if nothing is wanted.
        """
        if not generators or limit < 1:
            raise ValueError(f"claim needs generators and a positive limit, got {list(generators)} and {limit}")
        return members.claim(self._control, self._registered(), generators, limit)

    def commit(self, claims: Sequence[Claim], images: np.ndarray) -> list[bool]:
        """Write images and make their members READY.

        Args:
            claims: which members.
            images: uint8 [n, H, W, 3], one per claim.

        Returns:
            For each claim whether it was still valid; the image of a stale one is refused.

        Raises:
            ValueError: shape or dtype do not fit the claims.
        """
        shape = (len(claims), *self.spec.image_shape)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"commit got {images.dtype} {images.shape}, the claims need uint8 {shape}")
        row, results = self._registered(), []
        for start in range(0, len(claims), CHUNK):
            chunk = slice(start, start + CHUNK)
            results += members.commit_images(self._control, row, claims[chunk], images[chunk])
        return results

    def fail(self, claims: Sequence[Claim], reason: str) -> list[bool]:
        """Give members back after a failed render: WANTED again, FAILED after max_retries.

        Args:
            claims: which members.
            reason: for the statistics.

        Returns:
            For each claim whether it was still valid.
        """
        results = []
        for start in range(0, len(claims), CHUNK):
            results += members.fail(self._control, self._registered(), claims[start : start + CHUNK], reason)
        return results

    # ---- trainer

    def draw(
        self,
        request: DrawRequest,
        timeout_s: float,
        stop: Callable[[], bool] | None = None,
        heartbeat: Callable[[str], None] | None = None,
    ) -> Draw:
        """Lease the batch of a step; wait until its groups are ready.

        Which groups: round by round in throughput mode, a function of (seed, step) in deterministic mode, the tasks of
        `request.exactly` in replay mode; see picking.py.

        Args:
            request: how many captions, and which ones if the caller says so.
            timeout_s: longest wait, in seconds.
            stop: asked while waiting; True ends the wait.
            heartbeat: called with what the draw waits for, before every pause; None = this process's heartbeat.

        Raises:
            RingTimeout: the wait passed the deadline; the message says what lags.
            RingExhausted: the batch can never be filled.
            WaitStopped: `stop` returned True.
            UserError: the rate limiter's window is narrower than the batch.
            ValueError: the ring could never answer the request.
        """
        attempt = partial(drawing.try_draw, self._control, self._registered(), request)
        leased, waited_s = self._wait_to_draw(request, attempt, timeout_s, stop, heartbeat)
        return self._as_draw(request.step, leased, waited_s)

    def try_draw(self, request: DrawRequest) -> Draw | None:
        """Non-blocking draw. Return None if the batch is not ready.

        The ring then counts this process as a draw that waits, and makes room for the groups it lacks, until an attempt
        succeeds.

        Args:
            request: how many captions, and which ones if the caller says so.

        Raises:
            RingExhausted: the batch can never be filled.
            UserError: the rate limiter's window is narrower than the batch.
            ValueError: the ring could never answer the request.
        """
        drawing.check_request(self.spec, request)
        leased = drawing.try_draw(self._control, self._registered(), request)
        return None if leased is None else self._as_draw(request.step, leased, 0.0)

    def broadcast(
        self,
        request: DrawRequest,
        world: int,
        timeout_s: float,
        stop: Callable[[], bool] | None = None,
        heartbeat: Callable[[str], None] | None = None,
    ) -> tuple[DrawSummary, float]:
        """Draw the batch of a step for the ranks of this node and put it on the draw board (board.py).

        One rank, the leader, calls this; then each rank calls `receive`. Draws, waits and raises like `draw`; also
        waits while a rank is BOARD_STEPS steps behind.

        Args:
            request: the batch of all ranks.
            world: number of ranks that share it.
            timeout_s: longest wait, in seconds.
            stop: asked while waiting; True ends the wait.
            heartbeat: as in `draw`.

        Returns:
            What the batch consists of, and the seconds waited.
        """
        if not 1 <= world <= board.MAX_RANKS:
            raise ValueError(f"a draw board for {world} ranks; it serves 1 to {board.MAX_RANKS}")
        attempt = partial(board.try_broadcast, self._control, self._registered(), request, world)
        return self._wait_to_draw(request, attempt, timeout_s, stop, heartbeat)

    def receive(
        self,
        step: int,
        rank: int,
        world: int,
        timeout_s: float,
        stop: Callable[[], bool] | None = None,
        heartbeat: Callable[[str], None] | None = None,
    ) -> Draw:
        """Lease this rank's slice of the batch that was broadcast for a step; wait until it is there.

        Args:
            step: the step.
            rank: of this process among the ranks of the node.
            world: number of ranks that share the batch.
            timeout_s: longest wait, in seconds.
            stop: asked while waiting; True ends the wait.
            heartbeat: as in `draw`.

        Raises:
            RingTimeout: the wait passed the deadline; the message says what lags.
            WaitStopped: `stop` returned True.
            PolygenError: the rank has its slice already, or the batch was broadcast to another number of ranks.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        control, row = self._control, self._registered()
        leased, waited_s = wait_for(
            lambda: board.try_receive(control, row, step, rank, world),
            timeout_s,
            self._beat(f"waiting for the broadcast of step {step}", heartbeat),
            stop,
        )
        if waited_s:
            control.count(Total.DRAW_WAIT_NS, int(waited_s * 1e9))
        if leased is None:
            raise RingTimeout(diagnosis.missing_broadcast(control, step, rank, waited_s))
        return self._as_draw(step, leased, waited_s)

    def _wait_to_draw(
        self,
        request: DrawRequest,
        attempt: Callable[[], Drawn | None],
        timeout_s: float,
        stop: Callable[[], bool] | None,
        heartbeat: Callable[[str], None] | None,
    ) -> tuple[Drawn, float]:
        drawing.check_request(self.spec, request)
        control, row = self._control, self._registered()
        waiting = self._beat(f"waiting to draw {request.plain} plain + {request.pair} pair", heartbeat)
        try:
            drawn, waited_s = wait_for(attempt, timeout_s, waiting, stop)
        except (RingExhausted, WaitStopped, UserError):
            drawing.end_starvation(control, row)
            raise
        if waited_s:
            control.count(Total.DRAW_WAIT_NS, int(waited_s * 1e9))
        if drawn is None:
            drawing.end_starvation(control, row)
            raise RingTimeout(diagnosis.starved_draw(control, request, waited_s))
        return drawn, waited_s

    def _as_draw(self, step: int, leased: drawing.LeasedRows, waited_s: float) -> Draw:
        groups = drawing.describe(self._control, leased.rows, leased.kinds, leased.times, leased.turns)
        draw = Draw(step, groups, waited_s, next(self._lease_numbers), leased.recorded_turns(self.spec))
        self._leases[draw.lease] = draw
        return draw

    def read(self, slots: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy images of leased groups.

        Args:
            slots: n slots.
            out: uint8 [n, H, W, 3] to copy into, if given.

        Returns:
            The images, uint8 [n, H, W, 3].
        """
        index = np.asarray(slots, dtype=np.int64)
        if index.size and not (index.min() >= 0 and index.max() < self.spec.slots):
            raise ValueError(f"slots {index.min()} .. {index.max()} of a ring with {self.spec.slots}")
        return self._control.pixels.read(index, out)

    def read_intact(self, slots: Sequence[int], written: np.ndarray) -> dict[int, np.ndarray]:
        """Copy images of groups that are not leased, without those that were overwritten.

        Args:
            slots: which images.
            written: the column slot_checksum of a copied state of this ring, int64 [slots].

        Returns:
            {slot: image, uint8 [H, W, 3]}.
        """
        return read_intact(self._control.pixels, slots, written)

    def release(self, draw: Draw) -> None:
        """End the lease of a draw; its groups may be evicted again.

        Raises:
            ValueError: this process does not lease it, for example after a first release.
        """
        # The pop decides between two threads. Another process's draw may have the same number as one of ours.
        if self._leases.get(draw.lease) is not draw or self._leases.pop(draw.lease, None) is None:
            raise ValueError(f"the draw of step {draw.step} is not leased by this process (released twice?)")
        drawing.release(self._control, self._registered(), draw)

    def pin(self, row: int, generation: int) -> PinResult:
        """Keep a group that was drawn from being evicted until `unpin`; pins.py says how many may be pinned."""
        self._check_row(row)
        return pins.pin(self._control, row, generation)

    def unpin(self, row: int, generation: int) -> bool:
        """Let a pinned group be evicted again. Return False when it is not pinned."""
        self._check_row(row)
        return pins.unpin(self._control, row, generation)

    def unseen(self, limit: int) -> list[tuple[int, int]]:
        """Return (row, generation) of up to `limit` drawable groups, neither drawn nor pinned yet, oldest first."""
        return drawing.unseen(self._control, limit)

    def pinned(self) -> list[tuple[int, int]]:
        """Return (row, generation) of every pinned group."""
        with self._control.reading():
            return pins.pinned_groups(self._control.columns)

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self.spec.groups:
            raise ValueError(f"group row {row} of {self.spec.groups}")

    # ---- feedback

    def name_feedback_rows(self, axes: Sequence[str], concepts: Sequence[str]) -> None:
        """Name the rows of the feedback board that groups are opened with; those beyond FEEDBACK_NAMES have none."""
        feedback.name_rows(self._control, axes, concepts)

    def feedback_names(self) -> tuple[list[str], list[str]]:
        """Return the names of the rows of axes and of concepts, "" where there is none."""
        return feedback.names(self._control)

    def set_feedback_weights(
        self, axes: Mapping[str, float], concepts: Mapping[str, float], generators: Mapping[str, float]
    ) -> None:
        """Note how much a policy wants the rows of these names, for those who look at the run."""
        feedback.set_weights(self._control, axes, concepts, generators)

    def add_feedback(self, measured: Measurement) -> None:
        """Add what a training step measured of its images to the feedback board."""
        feedback.add(self._control, measured)

    def read_feedback(self) -> Feedback:
        """Return the means on the feedback board."""
        return feedback.read(self._control)

    # ---- supervisor and all processes

    @property
    def limits(self) -> Limits:
        """The limits as they are now."""
        with self._control.reading():
            return Limits.read(self._control.columns)

    def set_limits(self, **changes: float) -> Limits:
        """Change limits by name while the ring runs, all or none. Return the limits that hold from now on.

        Raises:
            UserError: under the new limits producers and trainer would wait for each other for ever.
        """
        return set_limits(self._control, changes)

    @property
    def step(self) -> int:
        """The curriculum step that producers see."""
        with self._control.reading():
            return self._control.total(Total.STEP)

    def set_step(self, step: int) -> None:
        """Set the curriculum step that producers see."""
        with self._control.transition(Operation.NOTE) as journal:
            journal.set("total", int(Total.STEP), step)

    def generator_down(self, generator: int) -> None:
        """Give a generator up: its wanted members become FAILED, open groups complete without it."""
        reaper.generator_down(self._control, generator)

    def reap(self) -> list[str]:
        """Take claims and leases back from dead processes. Return one line for each. Call it once a second."""
        return reaper.reap(self._control)

    def stats(self) -> RingStats:
        """Return the counters and what lies in the ring now."""
        return ring_stats(self._control)

    def groups_snapshot(self, limit: int) -> list[DrawnGroup]:
        """Return up to `limit` complete groups by task id. Not leased: a ring in use may evict them."""
        with self._control.reading():
            return complete_groups(self._control, limit)

    def check(self, images: bool = True) -> list[str]:
        """Return a line for each broken invariant, damaged caption and, with `images`, damaged READY slot. Slow."""
        with self._control.reading():
            c = self._control.columns
            damaged = damaged_slots(c, self._control.pixels) if images else []
            return [
                *broken_invariants(c, self.spec),
                *(f"pixels of slot {slot} are damaged" for slot in damaged),
                *(f"text of group {group} is damaged" for group in damaged_texts(c)),
            ]
