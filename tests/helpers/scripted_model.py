"""A language model for tests, which answers all pending requests at its next step as the test defines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from polygen_stream.captions.banks.base import Messages, ModelReply
from polygen_stream.captions.models.language_model import LanguageModel


class ScriptedModel(LanguageModel):
    """Base class: a test overrides `answer`."""

    def __init__(self) -> None:
        self._requests: list[tuple[int, Messages, int]] = []

    @abstractmethod
    def answer(self, turn: str, seed: int) -> str | ModelReply:
        """Return the reply to a chat with this last turn."""

    @property
    def provenance(self) -> Mapping[str, object]:
        return {"model": "a test's"}

    @property
    def pending(self) -> int:
        return len(self._requests)

    def submit(self, number: int, prompt: Messages, seed: int) -> None:
        self._requests.append((number, prompt, seed))

    def step(self) -> list[tuple[int, ModelReply]]:
        requests, self._requests = self._requests, []
        replies = []
        for number, prompt, seed in requests:
            reply = self.answer(prompt[-1]["content"], seed)
            replies.append((number, reply if isinstance(reply, ModelReply) else ModelReply(reply, True)))
        return replies
