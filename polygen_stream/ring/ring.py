"""The ring: the public face of a shared-memory replay buffer of image groups.

One process (the supervisor) creates it; the others attach to the inherited descriptor. Everything that
decides anything happens in short transitions under one robust mutex (control.py); pixels move outside of
it.

Long because it is the whole public surface on one page, mostly docstrings: what a method does lies in the
part it calls (groups.py, members.py, drawing.py, pins.py, snapshot.py).
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring import board, diagnosis, drawing, groups, members, memory, pins, reaper
from polygen_stream.ring.checksum import write_pictures
from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import CaptionTooLong, RingExhausted, RingTimeout, WaitStopped
from polygen_stream.ring.invariants import broken_invariants, damaged_slots
from polygen_stream.ring.layout import CHUNK, Total, put_text, ring_bytes
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.processes import start_time
from polygen_stream.ring.records import (
    Claim,
    Draw,
    DrawnGroup,
    DrawSummary,
    GroupRequest,
    GroupState,
    Kind,
    Member,
    PinResult,
    ProcessState,
)
from polygen_stream.ring.set_limits import set_limits
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.spec_checks import check_spec
from polygen_stream.ring.stats import RingStats, ring_stats
from polygen_stream.ring.texts import damaged_texts
from polygen_stream.ring.undo_journal import Operation
from polygen_stream.ring.waiting import wait_for

# The supervisor notices a stuck mutex before the roles do and kills its holder; the roles see no error.
SUPERVISOR_LOCK_TIMEOUT_S = 5.0
ROLE_LOCK_TIMEOUT_S = 30.0


Drawn = TypeVar("Drawn")


class Ring:
    """One process's view of the ring. Safe to use from several threads; never carried across a fork."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._row: int | None = None
        self._observer: Callable[[str, float, float], None] | None = None
        self._leases: dict[int, Draw] = {}
        self._lease_numbers = itertools.count(1)

    @classmethod
    def create(cls, spec: RingSpec, lock_timeout_s: float = SUPERVISOR_LOCK_TIMEOUT_S) -> Ring:
        """Allocate a ring.

        Raises:
            UserError: the spec is not valid (spec_checks.py), or there is not enough memory.
        """
        check_spec(spec)
        fd = memory.allocate(ring_bytes(spec))
        try:
            return cls(Control(fd, lock_timeout_s, spec))
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, lock_timeout_s: float = ROLE_LOCK_TIMEOUT_S) -> Ring:
        """Maps an inherited ring and marks `fd` close-on-exec. Raises RingMismatch (a UserError)."""
        return cls(Control(fd, lock_timeout_s))

    @property
    def fd(self) -> int:
        """The descriptor, close-on-exec here; hand it to children with subprocess's pass_fds."""
        return self._control.fd

    @property
    def spec(self) -> RingSpec:
        return self._control.spec

    def close(self) -> None:
        """Unmaps the ring and closes the descriptor. What this process still holds is for the reaper."""
        self._control.close()
        os.close(self._control.fd)

    # ---- process table

    def register(self, role: str, name: str) -> None:
        """Enters this process into the process table; needed before claim, commit, fail and draw."""
        control, pid = self._control, os.getpid()
        c = control.columns
        started = start_time(pid)
        assert started is not None
        with control.transition(Operation.REGISTER) as journal:
            # rows of the dead are kept for the statistics as long as there are unused ones
            rows = [
                *np.flatnonzero(c.process_state == ProcessState.FREE),
                *np.flatnonzero(c.process_state == ProcessState.DEAD),
            ]
            if not rows:
                raise PolygenError(
                    f"{role} '{name}' cannot join: all {c.process_state.size} rows of the ring's process table are "
                    "taken; start fewer processes, or let the supervisor reap the dead ones"
                )
            row = int(rows[0])
            put_text(c.process_role[row], role)
            put_text(c.process_name[row], name)
            put_text(c.process_doing[row], "start")
            c.process_wait_ns[row] = c.process_busy_ns[row] = c.process_serves[row] = 0
            c.process_heartbeat[row] = time.monotonic_ns()
            journal.set("process_pid", row, pid)
            journal.set("process_start", row, started)
            journal.set("process_state", row, int(ProcessState.LIVE))
        self._row = row

    def heartbeat(self, doing: str, waited_s: float = 0.0, busy_s: float = 0.0) -> None:
        """Says that this process lives and what it does; adds to its waiting and busy seconds. Lock-free."""
        c, row = self._control.columns, self._registered()
        put_text(c.process_doing[row], doing)
        c.process_wait_ns[row] += int(waited_s * 1e9)
        c.process_busy_ns[row] += int(busy_s * 1e9)
        c.process_heartbeat[row] = time.monotonic_ns()
        if self._observer:
            self._observer(doing, waited_s, busy_s)

    def observe(self, observer: Callable[[str, float, float], None]) -> None:
        """Has `observer` called with each of this process's heartbeats, in the thread that makes it."""
        self._observer = observer

    def _beat(self, doing: str) -> Callable[[], None]:
        """Keeps the heartbeat of a process fresh while it waits inside the ring."""
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
        """Reserves a whole group and returns its row; waits for room.

        Raises CaptionTooLong (counted, nothing reserved), ValueError for a senseless request, RingTimeout
        past the deadline, WaitStopped when `stop` returns True, GeneratorsDown when the generators of all its
        positives are down.
        """
        [row] = self.open_groups([GroupRequest(task_id, kind, caption, negative, members)], timeout_s, stop)
        return row

    def open_groups(
        self, requests: Sequence[GroupRequest], timeout_s: float, stop: Callable[[], bool] | None = None
    ) -> list[int]:
        """Opens several groups, in this order, as many at a time as there is room for; their rows.

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
        """One attempt of `open_groups`, for who waits by a clock of his own: rows of those there is room for now."""
        return groups.try_open(self._control, [groups.check_opening(self.spec, request) for request in requests]) or []

    def skip_task(self, task_id: int, timeout_s: float, stop: Callable[[], bool] | None = None) -> None:
        """Says that this task will have no group. Draws of a deterministic ring wait for it; `stats().known` counts it.

        Waits and raises like open_group.
        """
        control = self._control
        row, waited_s = wait_for(
            lambda: groups.try_skip(control, task_id), timeout_s, self._beat("waiting to skip a task"), stop
        )
        if row is None:
            raise RingTimeout(diagnosis.full_ring(control, task_id, [], waited_s))

    def finish_opening(self) -> None:
        """Says that no group will be opened any more."""
        with self._control.transition(Operation.NOTE) as journal:
            journal.set("total", int(Total.FINISHED), 1)

    def claim(self, generators: Sequence[int], limit: int) -> list[Claim]:
        """Claims up to `limit` members of the generator (of those) with the largest backlog, oldest first."""
        if not generators or limit < 1:
            raise ValueError(f"claim needs generators and a positive limit, got {list(generators)} and {limit}")
        return members.claim(self._control, self._registered(), generators, limit)

    def commit(self, claims: Sequence[Claim], images: np.ndarray) -> list[bool]:
        """Writes images (uint8 [n, H, W, 3]) and makes their members READY. False = stale claim, refused."""
        shape = (len(claims), *self.spec.image_shape)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"commit got {images.dtype} {images.shape}, the claims need uint8 {shape}")
        control, row = self._control, self._registered()
        results = []
        for start in range(0, len(claims), CHUNK):
            chunk, pixels = claims[start : start + CHUNK], images[start : start + CHUNK]
            with control.reading():
                held = members.owned(control, row, chunk)
            # Outside the mutex: a slot is ours from claim to commit, nobody else writes or frees it.
            slots = np.array([claim.slot for claim in chunk])
            if not held.all():
                slots, pixels = slots[held], pixels[held]
            sums = np.zeros(len(chunk), np.int64)
            sums[held] = write_pictures(control.columns.payload, slots, pixels)
            results += members.commit(control, row, chunk, sums)
        return results

    def fail(self, claims: Sequence[Claim], reason: str) -> list[bool]:
        """Gives members back after a failed render: WANTED again, FAILED past max_retries. False = stale."""
        results = []
        for start in range(0, len(claims), CHUNK):
            results += members.fail(self._control, self._registered(), claims[start : start + CHUNK], reason)
        return results

    # ---- trainer

    def draw(
        self,
        step: int,
        plain: int,
        pair: int,
        timeout_s: float,
        stop: Callable[[], bool] | None = None,
        first: Sequence[tuple[int, int]] = (),
        exactly: Sequence[int] | None = None,
    ) -> Draw:
        """Leases `plain` + `pair` different captions; waits until they are ready.

        Which ones: round by round, or, in deterministic mode, a function of (seed, step); see picking.py. Groups
        `first`, by (row, generation), go before others of their kind as far as they are there; not in that mode. A ring
        in replay mode takes the tasks `exactly`, in the order of the batch, and nothing else.
        Raises RingTimeout past the deadline, RingExhausted when the batch can never be filled, WaitStopped when
        `stop` returns True, UserError when the limiter's window is too narrow.
        """
        control, row = self._control, self._registered()
        picked, waited_s = self._await_draw(
            lambda: drawing.try_draw(control, row, step, plain, pair, first, exactly),
            step,
            plain,
            pair,
            timeout_s,
            stop,
        )
        return self._leased(step, drawing.describe(control, picked.rows, picked.kinds, picked.times), waited_s)

    def try_draw(self, step: int, plain: int, pair: int, first: Sequence[tuple[int, int]] = ()) -> Draw | None:
        """One attempt of `draw`, for who waits by a clock of his own; None: not now. Who gives up draws no more."""
        control, row = self._control, self._registered()
        picked = drawing.try_draw(control, row, step, plain, pair, first, None)
        if picked is None:
            return None
        return self._leased(step, drawing.describe(control, picked.rows, picked.kinds, picked.times), 0.0)

    def broadcast(
        self,
        step: int,
        plain: int,
        pair: int,
        world: int,
        timeout_s: float,
        stop: Callable[[], bool] | None = None,
        first: Sequence[tuple[int, int]] = (),
        exactly: Sequence[int] | None = None,
    ) -> tuple[DrawSummary, float]:
        """Draws the batch of `step` for `world` ranks of this node and puts it on the draw board (board.py).

        Called by one of them; then each calls `take`. Draws, waits and raises like draw; also waits while the ranks
        are BOARD_STEPS steps behind. Returns what the batch consists of, and the seconds waited.
        """
        if not 1 <= world <= board.MAX_RANKS:
            raise ValueError(f"a draw board for {world} ranks; it serves 1 to {board.MAX_RANKS}")
        control, row = self._control, self._registered()
        return self._await_draw(
            lambda: board.try_broadcast(control, row, step, plain, pair, world, first, exactly),
            step,
            plain,
            pair,
            timeout_s,
            stop,
        )

    def receive(
        self, step: int, rank: int, world: int, timeout_s: float, stop: Callable[[], bool] | None = None
    ) -> Draw:
        """This rank's slice of what was posted for `step`, leased by this process; waits until it is there.

        Raises RingTimeout past the deadline, WaitStopped when `stop` returns True, PolygenError when the rank has it
        already or the post is for another number of ranks.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        control, row = self._control, self._registered()
        described, waited_s = wait_for(
            lambda: board.try_receive(control, row, step, rank, world),
            timeout_s,
            self._beat(f"waiting for the post of step {step}"),
            stop,
        )
        if waited_s:
            control.count(Total.DRAW_WAIT_NS, int(waited_s * 1e9))
        if described is None:
            raise RingTimeout(diagnosis.missing_broadcast(control, step, rank, waited_s))
        return self._leased(step, described, waited_s)

    def _await_draw(
        self,
        attempt: Callable[[], Drawn | None],
        step: int,
        plain: int,
        pair: int,
        timeout_s: float,
        stop: Callable[[], bool] | None,
    ) -> tuple[Drawn, float]:
        if plain < 0 or pair < 0 or not 1 <= plain + pair <= self.spec.groups:
            raise ValueError(f"a draw of {plain} PLAIN + {pair} PAIR groups from {self.spec.groups} group rows")
        control, row = self._control, self._registered()
        waiting = self._beat(f"waiting to draw {plain} plain + {pair} pair")
        try:
            drawn, waited_s = wait_for(attempt, timeout_s, waiting, stop)
        except (RingExhausted, WaitStopped, UserError):
            drawing.end_starvation(control, row)
            raise
        if waited_s:
            control.count(Total.DRAW_WAIT_NS, int(waited_s * 1e9))
        if drawn is None:
            drawing.end_starvation(control, row)
            raise RingTimeout(diagnosis.starved_draw(control, step, plain, pair, waited_s))
        return drawn, waited_s

    def _leased(self, step: int, described: tuple[DrawnGroup, ...], waited_s: float) -> Draw:
        draw = Draw(step, described, waited_s, next(self._lease_numbers))
        self._leases[draw.lease] = draw
        return draw

    def read(self, slots: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copies images of leased groups: uint8 [n, H, W, 3], into `out` when given."""
        index = np.asarray(slots, dtype=np.int64)
        if index.size and not (index.min() >= 0 and index.max() < self.spec.slots):
            raise ValueError(f"slots {index.min()} .. {index.max()} of a ring with {self.spec.slots}")
        # mode "clip" lets take write straight into `out`; the range was checked above
        return np.take(self._control.columns.payload, index, axis=0, out=out, mode="clip")

    def release(self, draw: Draw) -> None:
        """Ends the lease of a draw; its groups may be evicted again. ValueError for a second release."""
        # the pop decides between two threads; a draw of somebody else must not cost us ours of the same number
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
        """(row, generation) of up to `limit` drawable groups that were neither drawn nor pinned yet, oldest first."""
        return drawing.unseen(self._control, limit)

    def pinned(self) -> list[tuple[int, int]]:
        """Return (row, generation) of every pinned group."""
        with self._control.reading():
            return pins.pinned_groups(self._control.columns)

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self.spec.groups:
            raise ValueError(f"group row {row} of {self.spec.groups}")

    # ---- supervisor and everybody

    @property
    def limits(self) -> Limits:
        """The limits as they are now."""
        with self._control.reading():
            return Limits.read(self._control.columns)

    def set_limits(self, **changes: float) -> Limits:
        """Changes limits by name while the ring runs, all or none; returns what holds from now on.

        Raises UserError when the new numbers would stop producers and trainer for ever.
        """
        return set_limits(self._control, changes)

    @property
    def step(self) -> int:
        """Curriculum step, shown to the producers."""
        with self._control.reading():
            return self._control.total(Total.STEP)

    def set_step(self, step: int) -> None:
        with self._control.transition(Operation.NOTE) as journal:
            journal.set("total", int(Total.STEP), step)

    def generator_down(self, generator: int) -> None:
        """Gives a generator up: its wanted members become FAILED, open groups complete without it."""
        reaper.generator_down(self._control, generator)

    def reap(self) -> list[str]:
        """Takes back what dead processes held; one line for each. Call it once a second."""
        return reaper.reap(self._control)

    def stats(self) -> RingStats:
        return ring_stats(self._control)

    def groups_snapshot(self, limit: int) -> list[DrawnGroup]:
        """Up to `limit` complete groups by task id. Not leased: a ring still being filled may evict them."""
        control = self._control
        with control.reading():
            c = control.columns
            rows = np.flatnonzero(c.group_state == GroupState.COMPLETE)
            rows = rows[np.argsort(c.group_task[rows], kind="stable")][:limit]
            kinds = tuple(Kind(kind) for kind in c.group_kind[rows].tolist())
            return list(drawing.describe(control, rows, kinds, c.group_times[rows]))

    def check(self) -> list[str]:
        """Invariants that do not hold, READY slots and captions that were damaged; [] if healthy. Slow."""
        with self._control.reading():
            c = self._control.columns
            return [
                *broken_invariants(c, self.spec),
                *(f"pixels of slot {slot} are damaged" for slot in damaged_slots(c)),
                *(f"text of group {group} is damaged" for group in damaged_texts(c)),
            ]
