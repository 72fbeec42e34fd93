"""Base class of language models that answer many requests at once, in an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from polygen_stream.captions.banks.base import Messages, ModelReply
from polygen_stream.captions.models.language_model import LanguageModel

STEP_S = 0.005
CLOSE_S = 10.0


class AsyncLanguageModel(LanguageModel):
    """Hands requests to the event loop as they are submitted.

    Args:
        in_flight: the largest number of requests that are being answered at the same time.
    """

    def __init__(self, in_flight: int) -> None:
        self._pending = 0
        self._slots = asyncio.Semaphore(in_flight)
        self._answered: SimpleQueue[tuple[int, ModelReply | Exception]] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        # A daemon thread: a process that ends with an error must not wait for replies that it will not read.
        self._thread = Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()

    @abstractmethod
    async def _reply(self, prompt: Messages, seed: int) -> ModelReply:
        """Return the reply to one request. `step` re-raises the exceptions of this method."""

    @property
    def pending(self) -> int:
        """Number of requests whose replies `step` has not returned."""
        return self._pending

    def submit(self, number: int, prompt: Messages, seed: int) -> None:
        """Hand a request to the event loop."""
        self._pending += 1
        asyncio.run_coroutine_threadsafe(self._answer(number, prompt, seed), self._loop)

    def step(self) -> list[tuple[int, ModelReply]]:
        """Wait up to `STEP_S` seconds for a reply and return all that have arrived.

        Raises:
            Exception: a request failed.
        """
        answered = []
        with suppress(Empty):
            answered.append(self._answered.get(timeout=STEP_S))
            while True:
                answered.append(self._answered.get_nowait())
        self._pending -= len(answered)
        replies = []
        for number, answer in answered:
            if isinstance(answer, Exception):
                raise answer
            replies.append((number, answer))
        return replies

    def close(self) -> None:
        """Cancel the pending requests and end the thread."""
        if not self._loop.is_closed():
            self._run(self._cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_S)
            self._loop.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the coroutine that makes the model ready. If it fails, close the model and re-raise."""
        try:
            self._run(work)
        except BaseException:
            self.close()
            raise

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop, wait for it, and return its result or raise its exception."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _answer(self, number: int, prompt: Messages, seed: int) -> None:
        try:
            async with self._slots:
                answer: ModelReply | Exception = await self._reply(prompt, seed)
        except Exception as problem:
            answer = problem
        self._answered.put((number, answer))

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
