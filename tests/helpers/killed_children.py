"""Children that stop at an exact line of the ring's code: SIGKILL or SIGSTOP to themselves, no hook in the product."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import CodeType, FunctionType

from polygen_stream.ring import Ring
from polygen_stream.ring.undo_journal import UndoJournal

DONE = 0  # exit status of a child that got to the end


def lines_of(code: CodeType, last: int | None = None) -> set[tuple[CodeType, int]]:
    """The lines of a function, or only its last few."""
    lines = sorted({line for _, _, line in code.co_lines() if line and line > code.co_firstlineno})
    return {(code, line) for line in (lines if last is None else lines[-last:])}


def every_line() -> set[tuple[CodeType, int]]:
    """All lines of all functions of the ring, nested ones too."""
    functions = [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]
    codes = [f.__code__ for f in functions if (f.__module__ or "").startswith("polygen_stream.ring.")]
    for code in codes:
        codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]  # grows while we go through it
    return set().union(*map(lines_of, codes))


# An entry is written but does not count yet; it counts but the cell has not changed yet; every line that ends or
# undoes a transition. The point after a change is the next entry's first.
JOURNALLED_WRITES = (
    lines_of(UndoJournal.set.__code__, last=2)
    | lines_of(UndoJournal.end.__code__)
    | lines_of(UndoJournal.roll_back.__code__)
)


def stop_at(number: int, points: set[tuple[CodeType, int]], sign: signal.Signals) -> None:
    """From now on: sends `sign` to this process just before it runs one of `points` for the number-th time."""
    codes = {code for code, _ in points}
    left = number

    def in_function(frame, event, argument):
        nonlocal left
        if event == "line" and (frame.f_code, frame.f_lineno) in points:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), sign)
        return in_function

    sys.settrace(lambda frame, event, argument: in_function if frame.f_code in codes else None)


def fork_child(ring: Ring, work: Callable[[Ring], None], register: bool = True) -> int:
    """Forks a process that attaches by itself, registers as renderer 'child' and does `work`. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        mine = Ring.attach(os.dup(ring.fd))
        if register:
            mine.register("renderer", "child")
        work(mine)
        status = DONE
    except BaseException:
        traceback.print_exc()
        status = 1
    os._exit(status)


def was_killed(pid: int) -> bool:
    """Waits for a child; True: by SIGKILL, False: it reached its end. Anything else fails the test."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (DONE, -signal.SIGKILL), f"child ended with {status}"
    return status != DONE
