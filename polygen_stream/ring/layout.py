"""The bytes of a ring: a header, one array per column, the undo journal, the image payload.

Columns are separate arrays, not one structured array: a draw looks at three of them and should not drag the
others through the cache. The layout is a pure function of the spec, so every process computes the same
offsets; the hash over both is stored in the header and compared at attach.

    header | slot columns | group columns | group x member and process x group tables | captions
           | process table | totals, limits | draw board | feedback board | undo journal | padding to a page
           | payload [slots, H, W, 3] uint8

With RingSpec.storage the payload is empty, and the images lie in a file (pixel_file.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from polygen_stream.ring.spec import RingSpec

MAGIC = 0x504F4C5952494E47  # "POLYRING"
VERSION = 9
PAGE = 4096
# numpy's large arrays start 16 bytes into a page. A copy from the same place of another page, or a few bytes before it,
# is a third slower: the processor takes loads for dependent on stores whose addresses agree in their last 12 bits.
PAYLOAD_SHIFT = 512
HEADER_BYTES = 2 * PAGE
MUTEX_OFFSET = 512
MUTEX_BYTES = 128  # glibc needs 40 on x86-64 and 48 on aarch64; lock.py verifies that the room is enough
LIBC_OFFSET, LIBC_BYTES = 256, 128
SPEC_OFFSET = 1024
PROCESSES = 64  # rows of the process table
BOARD_STEPS = 4  # steps by which the leader's draws may be ahead of the slowest rank
FEEDBACK_NAMES = 64  # rows of the feedback board for axes, as many for concepts, and the most generators it has
CHUNK = 256  # members ended in one critical section, so that none is long
ROLE_BYTES, NAME_BYTES, DOING_BYTES, REASON_BYTES = 32, 64, 96, 128


class Header(IntEnum):
    """Positions in the array of 8-byte words at the start of the header."""

    MAGIC = 0
    VERSION = 1
    HASH = 2
    PID_NAMESPACE = 3
    SPEC_BYTES = 4


class Total(IntEnum):
    """Positions in the `total` column: counters over the run and the few scalars the roles share."""

    STEP = 0
    FINISHED = 1
    SEQUENCE = 2  # next opening number; orders groups by age
    STARVED_PAIR = 3  # 1 + process row of a draw that waits for PAIR groups, 0 = none
    OPENED = 4
    COMPLETED = 5
    DROPPED = 6
    EVICTED = 7
    DEGRADED = 8
    DEMOTED = 9
    DRAWS = 10
    SAMPLES = 11
    GROUPS_DRAWN = 12
    STALE = 13
    RETRIES = 14
    REAPED = 15
    CAPTIONS_REJECTED = 16
    OPEN_WAIT_NS = 17
    DRAW_WAIT_NS = 18
    RECOVERIES = 19
    STARVED_ANY = 20  # 1 + process row of a draw that waits for groups of any kind, 0 = none
    MISSING = 21  # groups that this draw is short of
    LARGEST_DRAW = 22  # groups of the largest draw asked for so far
    PINS_REFUSED = 23  # as many groups were pinned as may be
    PINS_GONE = 24  # the group to pin had been evicted
    SKIPPED = 25  # task ids without a group, deterministic mode
    KNOWN = 26  # 1 + largest task id opened or skipped
    NEXT_STEP = 27  # latest step that was drawn or tried, deterministic mode
    PASSED = 28  # 1 + largest task id that made room, deterministic mode
    HELD_BACK = 29  # 1 + process row of a draw that the rate limiter makes wait for inserts, 0 = none
    ROUND = 30  # the round that draws of PLAIN groups have reached, see picking.py
    PAIR_ROUND = 31  # the same for PAIR groups
    IMAGES_DRAWN = 32  # images that at least one draw took
    FEEDBACK_STEPS = 33  # 1 + latest training step on the feedback board


class FeedbackCell(IntEnum):
    """Positions in a row of the feedback board: float64 by their bits, but for STEP. feedback.py says what they are."""

    STEP = 0
    IMAGES = 1
    LOSS = 2
    CORRECT = 3
    PAIRS = 4
    MARGIN = 5
    SLOW_IMAGES = 6
    SLOW_LOSS = 7


@dataclass(frozen=True)
class Column:
    """One array of the ring. Journalled columns change only through Journal.set, under the mutex."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    journalled: bool = True


def columns_of(spec: RingSpec) -> tuple[Column, ...]:
    """Return every column of a ring with this spec, in memory order."""
    slots, groups, members = spec.slots, spec.groups, spec.members
    log = journal_capacity(spec)
    return (
        Column("slot_state", "u1", (slots,)),
        Column("slot_generator", "i2", (slots,)),
        Column("slot_polarity", "u1", (slots,)),
        Column("slot_member", "i2", (slots,)),
        Column("slot_retries", "i2", (slots,)),
        Column("slot_owner", "i2", (slots,)),  # process row, -1 = none
        Column("slot_group", "i4", (slots,)),  # group row, -1 = none
        Column("slot_generation", "i8", (slots,)),  # raised by every claim
        Column("slot_seed", "i8", (slots,)),  # unsigned 64-bit seed, stored by its bits
        Column("slot_checksum", "i8", (slots,)),  # of the pixels of a READY slot, see checksum.py
        Column("slot_kept", "u1", (slots,)),  # 1 = FREE, with a whole image of an earlier attempt, see kept_images.py
        Column("group_state", "u1", (groups,)),
        Column("group_kind", "u1", (groups,)),
        Column("group_members", "i2", (groups,)),
        Column("group_pending", "i2", (groups,)),  # members WANTED or WRITING
        Column("group_positives", "i2", (groups,)),  # READY positives
        Column("group_negatives", "i2", (groups,)),  # READY negatives
        Column("group_leased", "i4", (groups,)),
        Column("group_pinned", "u1", (groups,)),  # 1 = not evicted, see pins.py
        Column("group_times", "i8", (groups,)),  # draws so far
        Column("group_shown", "i8", (groups * 2,)),  # [group, polarity] -> draws that took images of T+, of T-
        Column("group_round", "i8", (groups,)),  # the round that draws it next, -1 = not complete yet
        Column("group_generation", "i8", (groups,)),  # raised by every opening
        Column("group_task", "i8", (groups,)),
        Column("group_order", "i8", (groups,)),  # opening number: smaller is older
        Column("group_step", "i8", (groups,)),  # curriculum step at opening
        Column("group_axis", "i2", (groups,)),  # row of the feedback board, -1 = none
        Column("group_concept", "i2", (groups,)),  # same
        Column("group_caption_key", "i8", (groups,)),  # 64-bit hash of T+, for "no caption twice"
        Column("group_negative_key", "i8", (groups,)),  # same for T-, 0 = none
        Column("group_caption_bytes", "i4", (groups,)),
        Column("group_negative_bytes", "i4", (groups,)),  # -1 = no negative
        Column("group_slot", "i4", (groups * members,)),  # [group, member] -> slot
        Column("lease", "i4", (PROCESSES * groups,)),  # [process row, group] -> leases
        Column("process_state", "u1", (PROCESSES,)),
        Column("process_pid", "i8", (PROCESSES,)),
        Column("process_start", "i8", (PROCESSES,)),  # clock ticks after boot: a pid alone may be reused
        Column("generator_down", "u1", (len(spec.generators),)),
        Column("generator_committed", "i8", (len(spec.generators),)),
        Column("generator_failed", "i8", (len(spec.generators),)),
        Column("total", "i8", (len(Total),)),
        Column("limit", "i8", (5,)),  # float64 by their bits, see limits.py
        Column("limiter_offset", "i8", (1,)),  # same, see limiter.py
        Column("board_step", "i8", (BOARD_STEPS,)),  # step whose batch is there, -1 = none
        Column("board_leader", "i2", (BOARD_STEPS,)),  # process row that broadcast it
        Column("board_world", "i2", (BOARD_STEPS,)),  # ranks that share it
        Column("board_received", "i8", (BOARD_STEPS,)),  # bit mask of the ranks that have received their slice
        Column("board_plain", "i4", (BOARD_STEPS,)),  # groups drawn as PLAIN, the first of the batch
        Column("board_negative", "i4", (BOARD_STEPS,)),  # groups drawn as NEGATIVE, behind them
        Column("board_pair", "i4", (BOARD_STEPS,)),  # groups drawn as PAIR, the last
        Column("feedback", "i8", (3 * FEEDBACK_NAMES * len(FeedbackCell),)),  # [axis, concept, generator][row][cell]
        # Not journalled. Texts and batches are written before the row that shows them becomes visible; the rest of the
        # process table belongs to one writer and decides nothing.
        Column("text", "u1", (groups, 2, spec.caption_bytes), journalled=False),
        Column("board_group", "i4", (BOARD_STEPS, groups), journalled=False),  # rows of the batch, in its order
        Column("slot_drawn", "u1", (slots,), journalled=False),  # 1 = a draw took this image
        Column("board_times", "i8", (BOARD_STEPS, groups), journalled=False),  # their draws before this one
        Column("board_turns", "i8", (BOARD_STEPS, groups, 2), journalled=False),  # LeasedRows.turns
        Column("process_heartbeat", "i8", (PROCESSES,), journalled=False),  # monotonic nanoseconds
        Column("process_wait_ns", "i8", (PROCESSES,), journalled=False),
        Column("process_busy_ns", "i8", (PROCESSES,), journalled=False),
        Column("process_serves", "i8", (PROCESSES,), journalled=False),  # bit mask of generators it claims for
        Column("process_role", "u1", (PROCESSES, ROLE_BYTES), journalled=False),
        Column("process_name", "u1", (PROCESSES, NAME_BYTES), journalled=False),
        Column("process_doing", "u1", (PROCESSES, DOING_BYTES), journalled=False),
        Column("generator_reason", "u1", (len(spec.generators), REASON_BYTES), journalled=False),
        Column("feedback_name", "u1", (2 * FEEDBACK_NAMES, NAME_BYTES), journalled=False),  # of axes and concepts
        Column("feedback_weight", "f8", (3 * FEEDBACK_NAMES,), journalled=False),  # what a policy gave; 0 = nothing
        Column("log_head", "i8", (2,), journalled=False),  # operation, number of valid entries
        Column("log_column", "i4", (log,), journalled=False),
        Column("log_index", "i4", (log,), journalled=False),
        Column("log_before", "i8", (log,), journalled=False),
        Column("payload", "u1", (0 if spec.storage else slots, *spec.image_shape), journalled=False),
    )


def journal_capacity(spec: RingSpec) -> int:
    """Return the entries the undo journal needs: the largest transition is an opening, a chunk of commits, or a draw.

    An opening journals 23 cells per group and 10 per member, a commit at most 12 per member; completing or dropping a
    group, which both can do, 8 + 4 x members more.
    """
    feedback = 3 * FEEDBACK_NAMES * len(FeedbackCell)
    return 64 + max(40 * spec.members, CHUNK * (40 + 4 * spec.members), 6 * spec.groups, feedback)


def ring_bytes(spec: RingSpec) -> int:
    """Return the bytes of the ring in memory: control pages and, without RingSpec.storage, the payload."""
    return RingLayout.of(spec).total_bytes


@dataclass(frozen=True)
class RingLayout:
    """Where each column lies.

    Attributes:
        columns: in memory order.
        offsets: of each column, in bytes from the start of the ring.
        total_bytes: size of the whole ring.
        digest: hash over all of it, stored in the header and compared at an attach.
    """

    columns: tuple[Column, ...]
    offsets: tuple[int, ...]
    total_bytes: int
    digest: int

    @classmethod
    def of(cls, spec: RingSpec) -> RingLayout:
        """Return the layout of a ring with this spec."""
        columns = columns_of(spec)
        offsets, end = [], HEADER_BYTES
        for column in columns:
            end = -(-end // 64) * 64 if column.name != "payload" else -(-end // PAGE) * PAGE + PAYLOAD_SHIFT
            offsets.append(end)
            end += int(np.prod(column.shape)) * np.dtype(column.dtype).itemsize
        total = -(-end // PAGE) * PAGE
        described = repr((VERSION, np.little_endian, spec.to_json(), columns, offsets, total))
        digest = hashlib.blake2b(described.encode(), digest_size=8).digest()
        return cls(columns, tuple(offsets), total, int.from_bytes(digest, "little", signed=True))


class RingColumns:
    """The arrays of a ring, one attribute per name in `columns_of`, which has their dtypes and shapes.

    A copy (state.py) lacks the payload and the undo journal.

    Args:
        arrays: by the name of the column.
    """

    slot_state: np.ndarray
    slot_generator: np.ndarray
    slot_polarity: np.ndarray
    slot_member: np.ndarray
    slot_retries: np.ndarray
    slot_owner: np.ndarray
    slot_group: np.ndarray
    slot_generation: np.ndarray
    slot_seed: np.ndarray
    slot_checksum: np.ndarray
    slot_kept: np.ndarray
    group_state: np.ndarray
    group_kind: np.ndarray
    group_members: np.ndarray
    group_pending: np.ndarray
    group_positives: np.ndarray
    group_negatives: np.ndarray
    group_leased: np.ndarray
    group_pinned: np.ndarray
    group_times: np.ndarray
    group_shown: np.ndarray
    group_round: np.ndarray
    group_generation: np.ndarray
    group_task: np.ndarray
    group_order: np.ndarray
    group_step: np.ndarray
    group_axis: np.ndarray
    group_concept: np.ndarray
    group_caption_key: np.ndarray
    group_negative_key: np.ndarray
    group_caption_bytes: np.ndarray
    group_negative_bytes: np.ndarray
    group_slot: np.ndarray
    lease: np.ndarray
    process_state: np.ndarray
    process_pid: np.ndarray
    process_start: np.ndarray
    generator_down: np.ndarray
    generator_committed: np.ndarray
    generator_failed: np.ndarray
    total: np.ndarray
    limit: np.ndarray
    limiter_offset: np.ndarray
    board_step: np.ndarray
    board_leader: np.ndarray
    board_world: np.ndarray
    board_received: np.ndarray
    board_plain: np.ndarray
    board_negative: np.ndarray
    board_pair: np.ndarray
    feedback: np.ndarray
    text: np.ndarray
    board_group: np.ndarray
    slot_drawn: np.ndarray
    board_times: np.ndarray
    board_turns: np.ndarray
    process_heartbeat: np.ndarray
    process_wait_ns: np.ndarray
    process_busy_ns: np.ndarray
    process_serves: np.ndarray
    process_role: np.ndarray
    process_name: np.ndarray
    process_doing: np.ndarray
    generator_reason: np.ndarray
    feedback_name: np.ndarray
    feedback_weight: np.ndarray
    log_head: np.ndarray
    log_column: np.ndarray
    log_index: np.ndarray
    log_before: np.ndarray
    payload: np.ndarray

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            setattr(self, name, array)

    @classmethod
    def mapped(cls, buffer: memoryview, layout: RingLayout) -> RingColumns:
        """Return views of a mapped ring."""
        arrays = {}
        for column, offset in zip(layout.columns, layout.offsets, strict=True):
            count = int(np.prod(column.shape))
            arrays[column.name] = np.frombuffer(buffer, column.dtype, count, offset).reshape(column.shape)
        return cls(arrays)


def put_text(row: np.ndarray, text: str) -> None:
    """Write a label into a fixed row of bytes, cut to fit (labels only; captions are never cut)."""
    data = text.encode("utf-8", "replace")[: row.size]
    row[: len(data)] = np.frombuffer(data, "u1")
    row[len(data) :] = 0


def get_text(row: np.ndarray) -> str:
    """Read a label from a fixed row of bytes."""
    return row.tobytes().rstrip(b"\0").decode("utf-8", "replace")
