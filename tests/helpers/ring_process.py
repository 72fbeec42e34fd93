"""A real process at the ring that does what a test tells it, one call at a time, and dies when it is told to."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
from killed_children import JOURNALLED_WRITES, stop_at
from small_rings import pictures

from polygen_stream.ring import Claim, Draw, DrawRequest, Ring


class Died(Exception):
    """The process was killed before it answered."""


class RingProcess:
    """Forked from the test; attaches to `ring` by itself. An error of the ring is raised in the test."""

    def __init__(self, ring: Ring, name: str, role: str = "renderer") -> None:
        self._pipe, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._pipe.close()
            _serve(ring, name, role, theirs)  # never returns
        theirs.close()
        assert self._pipe.recv() is None  # registered

    def call(self, method: str, *arguments, die_at: int | None = None):
        """Runs a method of `Hands` there. die_at: SIGKILL before its die_at-th journalled write, raising Died."""
        self._pipe.send((method, arguments, die_at))
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._wait()
            raise Died from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == -signal.SIGKILL
        self._pipe.close()


class Hands:
    """What a process can be told to do: the ring's methods, with pictures painted and draws kept on its side."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._draws: dict[int, Draw] = {}

    def open_group(self, *arguments) -> int:
        return self._ring.open_group(*arguments)

    def claim(self, generators: list[int], limit: int) -> list[Claim]:
        return self._ring.claim(generators, limit)

    def commit(self, claims: list[Claim]) -> list[bool]:
        shape = self._ring.spec.image_shape
        images = pictures(claims, shape) if claims else np.empty((0, *shape), np.uint8)
        return self._ring.commit(claims, images)

    def fail(self, claims: list[Claim]) -> list[bool]:
        return self._ring.fail(claims, "black image")

    def draw(self, step: int, plain: int, pair: int) -> tuple[Draw, list[np.ndarray]]:
        """The draw, and for each group its pictures, positives first."""
        draw = self._ring.draw(DrawRequest(step, plain, pair), 0.0)
        self._draws[draw.lease] = draw
        return draw, [self._ring.read(group.positive_slots + group.negative_slots) for group in draw.groups]

    def release(self, lease: int) -> None:
        self._ring.release(self._draws[lease])


def _serve(ring: Ring, name: str, role: str, pipe: Connection) -> None:
    try:
        mine = Ring.attach(os.dup(ring.fd))
        mine.register(role, name)
        hands = Hands(mine)
        pipe.send(None)
        while True:
            method, arguments, die_at = pipe.recv()
            if die_at is not None:
                stop_at(die_at, JOURNALLED_WRITES, signal.SIGKILL)
            try:
                answer = getattr(hands, method)(*arguments)
            except Exception as error:
                answer = error
            sys.settrace(None)
            pipe.send(answer)
    except EOFError:
        os._exit(0)  # the test is gone
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
