"""Captions from two language models: one writes T+ about a concept and an axis, the other edits it into T-.

Every reply is checked; one that is refused is asked for again with another seed, and a task whose attempts are all
refused is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from polygen_stream.captions.bank import Bank, Checked, Completion, Messages
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.ledger import Task
from polygen_stream.seeding import key


class LanguageModel(Protocol):
    """A chat model under fixed sampling settings."""

    @property
    def provenance(self) -> Mapping[str, object]:
        """What a journal says of who wrote: the model, its weights' hash or its name at an endpoint, the sampling."""
        ...

    def complete(self, prompts: Sequence[Messages], seeds: Sequence[int]) -> list[Completion]:
        """One reply per prompt, each sampled under its own seed in [0, 2**63)."""
        ...


class LanguageModelSource:
    """Base captions by one model and hard negatives by another, with validation.

    Args:
        retries: how often a refused reply is asked for again.
    """

    def __init__(self, bank: Bank, writer: LanguageModel, editor: LanguageModel, retries: int) -> None:
        self.concepts, self.axes = bank.concepts, bank.axes
        self._bank, self._writer, self._editor, self._retries = bank, writer, editor, retries

    @property
    def provenance(self) -> Mapping[str, object]:
        return {
            **self._bank.provenance,
            "retries": self._retries,
            "writer": self._writer.provenance,
            "editor": self._editor.provenance,
        }

    def write(self, tasks: Sequence[Task], with_negative: Sequence[bool]) -> list[Caption | Dropped]:
        bank, rejected = self._bank, [[] for _ in tasks]
        texts = self._attempt(
            self._writer,
            "caption",
            tasks,
            range(len(tasks)),
            lambda i: bank.ask_caption(tasks[i].concept, tasks[i].axis),
            lambda i, reply: bank.check_caption(reply, tasks[i].concept, tasks[i].axis),
            rejected,
        )
        negatives = self._attempt(
            self._editor,
            "negative",
            tasks,
            [i for i in texts if with_negative[i]],
            lambda i: bank.ask_negative(texts[i], tasks[i].axis),
            lambda i, reply: bank.check_negative(reply, texts[i], tasks[i].axis),
            rejected,
        )
        out: list[Caption | Dropped] = []
        for i, task in enumerate(tasks):
            why = tuple(rejected[i])
            if i not in texts or (with_negative[i] and i not in negatives):
                out.append(Dropped(why))
            elif with_negative[i]:
                out.append(Caption(texts[i], negatives[i], task.axis, why))
            else:
                out.append(Caption(texts[i], rejected=why))
        return out

    def _attempt(
        self,
        model: LanguageModel,
        stage: str,
        tasks: Sequence[Task],
        wanted: Iterable[int],
        ask: Callable[[int], Messages],
        check: Callable[[int, Completion], Checked],
        rejected: list[list[str]],
    ) -> dict[int, str]:
        """{index of a task: its accepted text}; refusals are added to `rejected`."""
        accepted: dict[int, str] = {}
        pending = list(wanted)
        for attempt in range(self._retries + 1):
            if not pending:
                break
            seeds = [key(tasks[i].caption_seed, stage, attempt) >> 1 for i in pending]
            for i, reply in zip(pending, model.complete([ask(i) for i in pending], seeds), strict=True):
                checked = check(i, reply)
                if checked.text is None:
                    rejected[i].append(f"{stage}: {checked.fault}")
                else:
                    accepted[i] = checked.text
            pending = [i for i in pending if i not in accepted]
        return accepted
