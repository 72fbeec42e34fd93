"""Captions from two language models: one writes T+ about a concept and an axis, the other edits it into T-.

Every reply is checked; one that is refused is asked for again with another seed, and a task whose attempts are all
refused is dropped. Tasks do not wait for each other: as soon as a T+ is accepted its T- is asked for, and both models
are fed while they work.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from polygen_stream.base.seeding import key
from polygen_stream.captions.banks.base import Bank, Messages, ModelReply
from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.schedule.ledger import CaptionTask

COLLECT_S = 0.1


class LanguageModel(ABC):
    """A chat model under fixed sampling settings, which is fed while it works.

    `tokens` counts those of all replies so far.
    """

    tokens = 0

    @property
    @abstractmethod
    def provenance(self) -> Mapping[str, object]:
        """What a journal says of who wrote: the model, its weights' hash or its name at an endpoint, the sampling."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Requests without a reply."""

    @abstractmethod
    def submit(self, number: int, prompt: Messages, seed: int) -> None:
        """Ask for a reply, sampled under its own seed in [0, 2**63). No two pending requests share a number."""

    @abstractmethod
    def step(self) -> list[tuple[int, ModelReply]]:
        """Work for a moment: the numbers of the requests that are done, in any order, with their replies."""

    def sleep(self) -> int:
        """Give back memory until the next request, with nothing pending. Returns how many bytes were freed."""
        return 0

    def close(self) -> None:  # noqa: B027 most have nothing to end
        """End whatever the model started."""

    def complete(self, prompts: Sequence[Messages], seeds: Sequence[int]) -> list[ModelReply]:
        """One reply per prompt, with nothing pending before and after."""
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            self.submit(number, prompt, seed)
        replies: dict[int, ModelReply] = {}
        while self.pending:
            replies.update(self.step())
        return [replies[number] for number in range(len(prompts))]


@dataclass
class _Work:
    """A task on its way to a caption."""

    task: CaptionTask
    with_negative: bool
    text: str | None = None  # the accepted T+
    attempt: int = 0  # of the present stage
    rejected: list[str] = field(default_factory=list)
    result: Caption | Dropped | None = None

    @property
    def stage(self) -> str:
        return "caption" if self.text is None else "negative"


class LanguageModelSource(CaptionSource):
    """Base captions by one model and hard negatives by another (or the same one), with validation.

    Args:
        retries: how often a refused reply is asked for again.
    """

    def __init__(self, bank: Bank, writer: LanguageModel, editor: LanguageModel, retries: int) -> None:
        self.concepts, self.axes = bank.concepts, bank.axes
        self._bank, self._writer, self._editor, self._retries = bank, writer, editor, retries
        self._models = [editor, writer] if editor is not writer else [writer]  # what is nearly done goes first
        self._queue: deque[_Work] = deque()
        self._asked: dict[int, _Work] = {}
        self._numbers = count()

    @property
    def provenance(self) -> Mapping[str, object]:
        return {
            **self._bank.provenance,
            "retries": self._retries,
            "writer": self._writer.provenance,
            "editor": self._editor.provenance,
        }

    @property
    def pending(self) -> int:
        return len(self._queue)

    @property
    def tokens(self) -> int:
        return sum(model.tokens for model in self._models)

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        work = _Work(task, with_negative)
        self._queue.append(work)
        self._ask(work)

    def collect(self) -> list[Caption | Dropped]:
        """Works until something is done, for a tenth of a second at most if a step of the models is as short."""
        until = time.monotonic() + COLLECT_S
        while self._queue and not self._queue[0].result and time.monotonic() < until:
            for model in self._models:
                if model.pending:
                    for number, reply in model.step():
                        self._take(self._asked.pop(number), reply)
        written = []
        while self._queue and self._queue[0].result:
            written.append(self._queue.popleft().result)
        return written

    def sleep(self) -> int:
        return sum(model.sleep() for model in self._models)

    def close(self) -> None:
        for model in self._models:
            model.close()

    def _ask(self, work: _Work) -> None:
        task, number = work.task, next(self._numbers)
        self._asked[number] = work
        seed = key(task.caption_seed, work.stage, work.attempt) >> 1
        if work.text is None:
            self._writer.submit(number, self._bank.caption_prompt(task.concept, task.axis), seed)
        else:
            self._editor.submit(number, self._bank.negative_prompt(work.text, task.axis), seed)

    def _take(self, work: _Work, reply: ModelReply) -> None:
        """Judge a reply, and do what comes next: edit the caption, ask again, or finish the task."""
        task = work.task
        if reply.fault:
            text, fault = None, reply.fault
        else:
            if work.text is None:
                checked = self._bank.check_caption(reply, task.concept, task.axis)
            else:
                checked = self._bank.check_negative(reply, work.text, task.axis)
            text, fault = checked.text, checked.fault
        if text is None:
            work.rejected.append(f"{work.stage}: {fault}")
            work.attempt += 1
            if work.attempt <= self._retries:
                self._ask(work)
            else:
                work.result = Dropped(tuple(work.rejected))
        elif work.text is not None:
            work.result = Caption(work.text, text, task.axis, tuple(work.rejected))
        elif work.with_negative:
            work.text, work.attempt = text, 0
            self._ask(work)
        else:
            work.result = Caption(text, rejected=tuple(work.rejected))
