"""Language models, and the caption source that has one write T+ and another (or the same) edit it into T-.

Every reply is checked. A rejected reply is requested again with another seed; a task is dropped once all its attempts
are rejected. Tasks do not wait for each other: T- is requested as soon as T+ is accepted, and both models receive
requests while they work.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from polygen_stream.base.seeding import key
from polygen_stream.captions.banks.base import Bank, CheckResult, Messages, ModelReply
from polygen_stream.captions.base import Caption, CaptionSource, Dropped, describes_scene
from polygen_stream.schedule.ledger import CaptionTask

COLLECT_S = 0.1


class LanguageModel(ABC):
    """A chat model with fixed sampling settings. New requests may be submitted while others are pending.

    Attributes:
        tokens: number of tokens in all replies so far.
    """

    tokens: int = 0

    @property
    @abstractmethod
    def provenance(self) -> Mapping[str, object]:
        """JSON object for the journal: the model, its weights' hash or its name at an endpoint, the sampling."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Number of requests whose replies `step` has not returned."""

    @abstractmethod
    def submit(self, number: int, prompt: Messages, seed: int) -> None:
        """Request a reply.

        Args:
            number: identifies the request; no two pending requests may share one.
            prompt: the messages.
            seed: of the sampling, in [0, 2**63).
        """

    @abstractmethod
    def step(self) -> list[tuple[int, ModelReply]]:
        """Work for a short time and return the finished requests as (number, reply), in any order."""

    def sleep(self) -> int:
        """Release memory until the next request. Must be called with no pending requests.

        Returns:
            Number of bytes that were freed.
        """
        return 0

    def close(self) -> None:  # noqa: B027 an empty default: some models have nothing to close
        """Stop the processes and threads that the model started."""

    def complete(self, prompts: Sequence[Messages], seeds: Sequence[int]) -> list[ModelReply]:
        """Submit requests and wait for all replies. No requests may be pending before the call.

        Args:
            prompts: one chat per request.
            seeds: one seed per request.

        Returns:
            One reply per prompt, in the same order.
        """
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            self.submit(number, prompt, seed)
        replies: dict[int, ModelReply] = {}
        while self.pending:
            replies.update(self.step())
        return [replies[number] for number in range(len(prompts))]


@dataclass
class _TaskState:
    """How far a task has come."""

    task: CaptionTask
    with_negative: bool
    text: str | None = None  # the accepted T+
    attempt: int = 0  # of the current stage
    rejected: list[str] = field(default_factory=list)
    result: Caption | Dropped | None = None

    @property
    def stage(self) -> str:
        return "caption" if self.text is None else "negative"


class LanguageModelSource(CaptionSource):
    """Captions by one language model and hard negatives by another (or the same one), with checks of all replies.

    Args:
        bank: concepts, axes, prompts and checks.
        writer: the model that writes T+.
        editor: the model that edits T+ into T-; may be the writer.
        retries: how many times a rejected reply is requested again.
        scene_share: share of tasks, in 0..1, whose caption is to describe a whole scene.
    """

    def __init__(
        self, bank: Bank, writer: LanguageModel, editor: LanguageModel, retries: int, scene_share: float = 0.0
    ) -> None:
        self.concepts, self.axes = bank.concepts, bank.axes
        self._bank, self._writer, self._editor, self._retries = bank, writer, editor, retries
        self._scene_share = scene_share
        self._models = [editor, writer] if editor is not writer else [writer]  # nearly finished tasks first
        self._queue: deque[_TaskState] = deque()
        self._requests: dict[int, _TaskState] = {}
        self._numbers = count()

    @property
    def provenance(self) -> Mapping[str, object]:
        """The bank, the retries, the share of whole scenes, and both models."""
        return {
            **self._bank.provenance,
            "retries": self._retries,
            "scene_share": self._scene_share,
            "writer": self._writer.provenance,
            "editor": self._editor.provenance,
        }

    @property
    def pending(self) -> int:
        """Number of submitted tasks whose results have not been collected."""
        return len(self._queue)

    @property
    def tokens(self) -> int:
        """Number of tokens that both models have generated so far."""
        return sum(model.tokens for model in self._models)

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        """Request T+ of a task from the writer."""
        state = _TaskState(task, with_negative)
        self._queue.append(state)
        self._request(state)

    def collect(self) -> list[Caption | Dropped]:
        """Step the models until the oldest task is done or `COLLECT_S` seconds have passed.

        A single step of a model may take longer. Returns the results of the oldest tasks up to the first unfinished
        one.
        """
        until = time.monotonic() + COLLECT_S
        while self._queue and not self._queue[0].result and time.monotonic() < until:
            for model in self._models:
                if model.pending:
                    for number, reply in model.step():
                        self._receive(self._requests.pop(number), reply)
        results: list[Caption | Dropped] = []
        while self._queue and (result := self._queue[0].result):
            results.append(result)
            self._queue.popleft()
        return results

    def sleep(self) -> int:
        """Put both models to sleep and return how many bytes were freed."""
        return sum(model.sleep() for model in self._models)

    def close(self) -> None:
        """Close both models."""
        for model in self._models:
            model.close()

    def _request(self, state: _TaskState) -> None:
        task, number = state.task, next(self._numbers)
        self._requests[number] = state
        seed = key(task.caption_seed, state.stage, state.attempt) >> 1
        if state.text is None:
            whole_scene = describes_scene(task.caption_seed, self._scene_share)
            self._writer.submit(number, self._bank.caption_prompt(task.concept, task.axis, whole_scene), seed)
        else:
            self._editor.submit(number, self._bank.negative_prompt(state.text, task.axis), seed)

    def _receive(self, state: _TaskState, reply: ModelReply) -> None:
        """Check a reply and continue the task: request T-, request again, or finish."""
        checked = self._check(state, reply)
        if checked.text is None:
            state.rejected.append(f"{state.stage}: {checked.fault}")
            state.attempt += 1
            if state.attempt <= self._retries:
                self._request(state)
            else:
                state.result = Dropped(tuple(state.rejected))
        elif state.text is not None:
            state.result = Caption(state.text, checked.text, state.task.axis, tuple(state.rejected))
        elif state.with_negative:
            state.text, state.attempt = checked.text, 0
            self._request(state)
        else:
            state.result = Caption(checked.text, rejected=tuple(state.rejected))

    def _check(self, state: _TaskState, reply: ModelReply) -> CheckResult:
        if reply.fault:
            return CheckResult(None, reply.fault)
        if state.text is None:
            return self._bank.check_caption(reply, state.task.concept, state.task.axis)
        return self._bank.check_negative(reply, state.text, state.task.axis)
