"""A process-shared robust pthread mutex, through ctypes.

The kernel hands a robust mutex to the next locker when its holder is killed (EOWNERDEAD); a
multiprocessing.Lock would hang for ever. The mutex is of the error-checking type, so a signal handler that
touches the ring while its own thread holds the mutex gets an error instead of a deadlock.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import threading
import time
from enum import Enum

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.ring.errors import LostLock
from polygen_stream.ring.layout import MUTEX_BYTES

_PTHREAD_PROCESS_SHARED = 1
_PTHREAD_MUTEX_ROBUST = 1
_PTHREAD_MUTEX_ERRORCHECK = 2
_FUTEX_TID_MASK = 0x3FFFFFFF
_CANARY = 0xA5


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Acquired(Enum):
    """How an acquire ended. OWNER_DIED: we hold the mutex, but the state it guards may be half changed."""

    CLEAN = 0
    OWNER_DIED = 1
    TIMED_OUT = 2


def _bind() -> ctypes.CDLL:
    # CDLL and not PyDLL: the interpreter lock is released while we wait
    libc = ctypes.CDLL(None, use_errno=True)
    names = ("init", "trylock", "clocklock", "unlock", "consistent")
    try:
        functions = {name: getattr(libc, f"pthread_mutex_{name}") for name in names}
    except AttributeError as error:
        raise UserError(
            f"this C library has no {error.args[0].split()[-1]}; the ring needs glibc 2.30 or newer"
        ) from error
    for function in functions.values():
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_int
    functions["init"].argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    functions["clocklock"].argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Timespec)]
    return libc


_LIBC = _bind() if os.name == "posix" and platform.system() == "Linux" else None


def libc_id() -> str:
    """Return the C library whose pthread_mutex_t lies in the ring; processes of one ring must agree on it."""
    return f"{os.confstr('CS_GNU_LIBC_VERSION')} {platform.machine()}"


def _check(result: int, call: str) -> None:
    """Refuse an error of the C library. Not an assertion: the call has to be made under `python -O`, too."""
    if result != 0:
        raise RuntimeError(f"ring mutex: {call}: {errno.errorcode.get(result, result)}")


class RobustMutex:
    """Wraps a pthread_mutex_t that lies in `room` (uint8 [MUTEX_BYTES] in shared memory)."""

    def __init__(self, room: np.ndarray) -> None:
        if _LIBC is None:
            raise UserError(f"the ring needs Linux (memfd and robust futexes), this is {platform.system()}")
        assert room.size == MUTEX_BYTES
        self._libc = _LIBC
        self._address = room.ctypes.data
        assert self._address % 16 == 0
        self._room = room
        self._word = room[:4].view("u4")  # the robust futex word: holder's thread id and two flag bits

    def initialise(self) -> None:
        """Create the mutex, once, before any other process can see it. Raises UserError on an unknown libc."""
        self._room[:] = _CANARY
        attributes = (ctypes.c_char * 64)()
        for name, value in (
            ("init", None),
            ("setpshared", _PTHREAD_PROCESS_SHARED),
            ("setrobust", _PTHREAD_MUTEX_ROBUST),
            ("settype", _PTHREAD_MUTEX_ERRORCHECK),
        ):
            function = getattr(self._libc, f"pthread_mutexattr_{name}")
            _check(function(attributes) if value is None else function(attributes, value), f"pthread_mutexattr_{name}")
        _check(self._libc.pthread_mutex_init(self._address, ctypes.addressof(attributes)), "pthread_mutex_init")
        self._verify()

    def _verify(self) -> None:
        """Check the size by what the library touches: sizeof(pthread_mutex_t) is not known at run time."""
        _check(self._libc.pthread_mutex_trylock(self._address), "pthread_mutex_trylock")
        holder = self.holder()
        self.release()
        touched = int(np.flatnonzero(self._room != _CANARY)[-1]) + 1
        if touched > MUTEX_BYTES // 2 or holder != threading.get_native_id():
            raise UserError(
                f"{libc_id()} has a pthread mutex this ring does not know ({touched} bytes touched, holder "
                f"word {holder}, thread {threading.get_native_id()}); use glibc 2.30 or newer"
            )

    def acquire(self, timeout_s: float) -> Acquired:
        """Lock the mutex. Raises LostLock when it can never be locked again."""
        result = self._libc.pthread_mutex_trylock(self._address)
        if result == errno.EBUSY:
            deadline = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(timeout_s * 1e9)
            until = _Timespec(deadline // 10**9, deadline % 10**9)
            result = self._libc.pthread_mutex_clocklock(self._address, time.CLOCK_MONOTONIC, ctypes.byref(until))
        if result == 0:
            return Acquired.CLEAN
        if result == errno.EOWNERDEAD:
            return Acquired.OWNER_DIED
        if result == errno.ETIMEDOUT:
            return Acquired.TIMED_OUT
        if result == errno.ENOTRECOVERABLE:
            raise LostLock(
                "the ring's mutex cannot be recovered: an earlier recovery failed; end the run and resume it"
            )
        raise RuntimeError(f"ring mutex: {errno.errorcode.get(result, result)} (a signal handler touched the ring?)")

    def mark_consistent(self) -> None:
        """Declare the state repaired after OWNER_DIED. Releasing without it makes the mutex unusable for good."""
        _check(self._libc.pthread_mutex_consistent(self._address), "pthread_mutex_consistent")

    def release(self) -> None:
        """Unlock the mutex."""
        _check(self._libc.pthread_mutex_unlock(self._address), "pthread_mutex_unlock")

    def holder(self) -> int:
        """Return the thread id of the holder, 0 if there is none. The futex word is kernel ABI for robust mutexes."""
        return int(self._word[0]) & _FUTEX_TID_MASK
