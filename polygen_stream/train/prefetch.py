"""Prefetching: the batch of the next step is drawn, gathered, tokenised and staged while a step computes.

A thread of our own, for three things that torchdata's `Prefetcher` and `PinMemory` do not do. They draw at once when a
batch is taken, so that a checkpoint would hold a ring, a leftover queue and pins that are a draw ahead of the reader's
state; here nothing is drawn ahead of a checkpoint. They raise a copy of an error whose message is a traceback, where
users get one line. And a reader that waits for the ring would send the heartbeats of a training thread that hangs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from time import monotonic
from typing import Any

from torchdata.nodes import BaseNode

from polygen_stream.ring import WaitStopped
from polygen_stream.train.batch import TrainBatch

POLL_S = 0.05


class ReaderHeartbeat:
    """The heartbeats of the thread that reads batches. The training thread passes them on while it waits for a batch.

    While it computes they are dropped: they would hide a step that hangs.
    """

    def __init__(self) -> None:
        self.closed = False
        self._doing: str | None = None

    def __call__(self, doing: str) -> None:
        """Say what the reader waits for.

        Raises:
            WaitStopped: no thread is going to take the batch.
        """
        if self.closed:
            raise WaitStopped("the process is stopping")
        self._doing = doing

    def take(self) -> str | None:
        """Return what was said last, if that was after the last call."""
        doing, self._doing = self._doing, None
        return doing


class Prefetcher(BaseNode[TrainBatch]):
    """The batches of a reader, each read by a thread, if possible while the training thread computes the step before.

    `close` ends the thread; it must not outlive the ring.

    Args:
        reader: a node whose state is that of the batches it has given.
        said: what the reader says its heartbeats to.
        heartbeat: of the process; called by the training thread while it waits for a batch and the reader waits, too.
        ahead: step -> whether its batch may be read before the step before it has ended. False where the state of the
            reader or the ring is needed in between.
        while_waiting: called every POLL_S while the training thread waits for a batch.
    """

    def __init__(
        self,
        reader: BaseNode[TrainBatch],
        said: ReaderHeartbeat,
        *,
        heartbeat: Callable[[str], None],
        ahead: Callable[[int], bool],
        while_waiting: Callable[[], None],
    ) -> None:
        super().__init__()
        self._reader = reader
        self._said, self._heartbeat = said, heartbeat
        self._ahead = ahead
        self._while_waiting = while_waiting
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._reading: Future[TrainBatch] | None = None

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Start the reader at its beginning, or continue from what `get_state` returned."""
        super().reset(initial_state)
        assert self._reading is None, "a batch is being read"
        self._reader.reset(initial_state)

    def get_state(self) -> dict[str, Any]:
        """Return the state of the reader. No batch may have been read ahead."""
        assert self._reading is None, "the state of the reader is that of a batch which was not delivered"
        return self._reader.state_dict()

    def next(self) -> TrainBatch:
        """Return the next batch, and begin to read the one after it.

        Raises:
            StopIteration: the reader has ended.
            PolygenError: what the reader raised.
        """
        began = monotonic()
        reading, self._reading = self._reading or self._thread.submit(next, self._reader), None
        self._said.take()  # may be of long ago
        while not wait((reading,), POLL_S).done:
            if doing := self._said.take():
                self._heartbeat(doing)
            self._while_waiting()
        batch = reading.result()
        if self._ahead(batch.step + 1):
            self._reading = self._thread.submit(next, self._reader)
        # Less waiting would have had the batch here earlier by no more than either.
        waited_s = min(batch.waited_s, in_all_s := monotonic() - began)
        return replace(batch, waited_s=waited_s, load_wait_s=in_all_s - waited_s)

    def close(self) -> None:
        """End the thread. A batch that it is reading is lost."""
        self._said.closed = True
        self._thread.shutdown(cancel_futures=True)
