"""A language model of a test: it answers all that it was asked at its next step, as a test says."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from polygen_stream.captions.banks.base import Messages, ModelReply
from polygen_stream.captions.models.language_model import LanguageModel


class ScriptedModel(LanguageModel):
    def __init__(self) -> None:
        self._asked: list[tuple[int, Messages, int]] = []

    @abstractmethod
    def answer(self, turn: str, seed: int) -> str | ModelReply:
        """The reply to a chat with this last turn."""

    @property
    def provenance(self) -> Mapping[str, object]:
        return {"model": "a test's"}

    @property
    def pending(self) -> int:
        return len(self._asked)

    def submit(self, number: int, prompt: Messages, seed: int) -> None:
        self._asked.append((number, prompt, seed))

    def step(self) -> list[tuple[int, ModelReply]]:
        asked, self._asked = self._asked, []
        found = []
        for number, prompt, seed in asked:
            reply = self.answer(prompt[-1]["content"], seed)
            found.append((number, reply if isinstance(reply, ModelReply) else ModelReply(reply, True)))
        return found
