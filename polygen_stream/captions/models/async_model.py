"""A language model that answers many requests at once, from an event loop in a thread of its own."""

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
    """Requests are handed to the loop as they come; at most `in_flight` are being answered at a time."""

    def __init__(self, in_flight: int) -> None:
        self._pending = 0
        self._turns = asyncio.Semaphore(in_flight)
        self._answered: SimpleQueue[tuple[int, ModelReply | Exception]] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        # A daemon: a process that ends for an error must not wait for replies that nobody reads any more.
        self._thread = Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()

    @abstractmethod
    async def _reply(self, prompt: Messages, seed: int) -> ModelReply:
        """The reply to one request. What it raises, `step` raises."""

    @property
    def pending(self) -> int:
        return self._pending

    def submit(self, number: int, prompt: Messages, seed: int) -> None:
        self._pending += 1
        asyncio.run_coroutine_threadsafe(self._answer(number, prompt, seed), self._loop)

    def step(self) -> list[tuple[int, ModelReply]]:
        found = []
        with suppress(Empty):
            found.append(self._answered.get(timeout=STEP_S))
            while True:
                found.append(self._answered.get_nowait())
        self._pending -= len(found)
        for _, reply in found:
            if isinstance(reply, Exception):
                raise reply
        return found

    def close(self) -> None:
        if not self._loop.is_closed():
            self._run(self._cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_S)
            self._loop.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what makes the model ready; when that fails, nothing of it stays."""
        try:
            self._run(work)
        except BaseException:
            self.close()
            raise

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine in the loop and waits for what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _answer(self, number: int, prompt: Messages, seed: int) -> None:
        try:
            async with self._turns:
                answer: ModelReply | Exception = await self._reply(prompt, seed)
        except Exception as problem:
            answer = problem
        self._answered.put((number, answer))

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
