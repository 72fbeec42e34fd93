"""The intent record: an undo journal of before-images that makes every transition all-or-nothing.

Each change of a journalled cell first appends (column, index, value before) to the journal, then raises the
length word, then changes the cell. Ending a transition is the single store of 0 to the length word. A process
that finds the length above 0 after its writer died restores the before-images in reverse order; that may itself
be interrupted and begun again. Only process death matters here (a SIGKILLed thread has done a prefix of its
stores, in order), so no memory fences or flushes are needed beyond those of the mutex.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from polygen_stream.ring.errors import JournalFull
from polygen_stream.ring.layout import RingColumns, RingLayout


class Operation(IntEnum):
    """What the holder of the mutex is doing; named in errors."""

    NOTHING = 0
    REGISTER = 1
    OPEN = 2
    EVICT = 3
    CLAIM = 4
    COMMIT = 5
    FAIL = 6
    DRAW = 7
    RELEASE = 8
    REAP = 9
    DOWN = 10
    NOTE = 11  # a scalar in the header: step, end of production, a counter
    INSPECT = 12  # reads only
    RECOVER = 13
    BROADCAST = 14
    RECEIVE = 15
    PIN = 16
    SKIP = 17
    FEEDBACK = 18


_OPERATION, _LENGTH = 0, 1


class UndoJournal:
    """All writes to journalled columns: `set` and `add`, between `begin` and `end`, under the mutex."""

    def __init__(self, columns: RingColumns, layout: RingLayout) -> None:
        self._head = columns.log_head
        self._column = columns.log_column
        self._index = columns.log_index
        self._before = columns.log_before
        names = [column.name for column in layout.columns if column.journalled]
        self._arrays = [getattr(columns, name) for name in names]
        self._codes = {name: code for code, name in enumerate(names)}

    @property
    def operation(self) -> Operation:
        """What the holder of the mutex is doing."""
        return Operation(int(self._head[_OPERATION]))

    def begin(self, operation: Operation) -> None:
        """Begin a transition."""
        assert self._head[_LENGTH] == 0, "a transition began inside another"
        self._head[_OPERATION] = operation

    def set(self, name: str, index: int | np.ndarray, value: int | np.ndarray) -> None:
        """Set one cell, or an array of distinct cells, of a journalled column."""
        code = self._codes[name]
        array = self._arrays[code]
        start = int(self._head[_LENGTH])
        many = isinstance(index, np.ndarray)
        stop = start + (index.size if many else 1)
        if stop > self._before.size:
            raise JournalFull(
                f"{self.operation.name} changes more than the {self._before.size} cells the ring's undo journal holds, "
                "and was undone; this is a fault in journal_capacity of polygen_stream/ring/layout.py, please report it"
            )
        entries = slice(start, stop) if many else start  # numpy sets one cell much faster than a slice of one
        self._column[entries] = code
        self._index[entries] = index
        self._before[entries] = array[index]
        self._head[_LENGTH] = stop  # the entries count from here on
        array[index] = value

    def add(self, name: str, index: int | np.ndarray, amount: int | np.ndarray) -> None:
        """Add to one cell, or to an array of distinct cells, of a journalled column."""
        self.set(name, index, self._arrays[self._codes[name]][index] + amount)

    def end(self) -> None:
        """End the transition: what it changed is final."""
        self._head[_LENGTH] = 0  # the commit point of the transition
        self._head[_OPERATION] = Operation.NOTHING

    def roll_back(self) -> int:
        """Undo the unfinished transition, if there is one. Return the number of restored cells."""
        length = int(self._head[_LENGTH])
        for entry in range(length - 1, -1, -1):
            self._arrays[self._column[entry]][self._index[entry]] = self._before[entry]
        self.end()
        return length
