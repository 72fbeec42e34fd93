"""Batches from the ring, as one torchdata node: its state rides in the usual state_dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchdata.nodes import BaseNode

from polygen_stream.curriculum import Curriculum, DrawMix
from polygen_stream.ring import Draw, Kind, Ring, WaitStopped
from polygen_stream.train.loss import Layout
from polygen_stream.train.model import Tokenizer
from polygen_stream.train.staging import Staging


@dataclass(frozen=True)
class Batch:
    """One step's worth of training data: N images and T texts, positives before negatives in both.

    Args:
        step: the step it was drawn for.
        mix: what the curriculum asked for.
        images: uint8 [N, H, W, 3] on the device.
        tokens: int64 [T, context length] on the device.
        layout: which image shows which text, and which texts are T-; on the device.
        texts: the captions, T+ then T-.
        generators: index of the generator of each image, N entries.
        plain_tasks: task ids of the groups drawn without their negative.
        pair_tasks: task ids of the groups drawn with it.
        waited_s: seconds spent waiting for the ring.
    """

    step: int
    mix: DrawMix
    images: Tensor
    tokens: Tensor
    layout: Layout
    texts: tuple[str, ...]
    generators: tuple[int, ...]
    plain_tasks: tuple[int, ...]
    pair_tasks: tuple[int, ...]
    waited_s: float


class RingReader(BaseNode[Batch]):
    """Draws the curriculum's mix of every step until `steps`.

    The lease on a draw ends as soon as its pixels are copied. When `stop` turns true during a wait the reader
    ends as at the last step, and neither its state nor the curriculum counts the batch it never got.

    Args:
        steps: steps of the whole run.
        timeout_s: longest wait for a batch; then RingTimeout names who lags.
        stop: asked while waiting.
    """

    def __init__(
        self,
        ring: Ring,
        curriculum: Curriculum,
        tokenizer: Tokenizer,
        staging: Staging,
        device: torch.device,
        *,
        steps: int,
        timeout_s: float,
        stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._ring = ring
        self._curriculum = curriculum
        self._tokenizer = tokenizer
        self._staging = staging
        self._device = device
        self._steps = steps
        self._timeout_s = timeout_s
        self._stop = stop
        self._step = 0

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        super().reset(initial_state)
        self._step = initial_state["step"] if initial_state else 0

    def get_state(self) -> dict[str, Any]:
        return {"step": self._step}

    def next(self) -> Batch:
        if self._step == self._steps or self._stop():
            raise StopIteration
        before = self._curriculum.state_dict()
        mix = self._curriculum.draw(self._step)
        try:
            draw = self._ring.draw(self._step, mix.plain, mix.pair, self._timeout_s, self._stop)
        except WaitStopped:
            self._curriculum.load_state_dict(before)
            raise StopIteration from None
        try:
            batch = self._assemble(draw, mix)
        finally:
            self._ring.release(draw)
        self._step += 1
        return batch

    def _assemble(self, draw: Draw, mix: DrawMix) -> Batch:
        pairs = [group for group in draw.groups if group.kind is Kind.PAIR]
        texts = [group.caption for group in draw.groups] + [group.negative for group in pairs]
        slots = [group.positive_slots for group in draw.groups] + [group.negative_slots for group in pairs]
        generators = [group.positive_generators for group in draw.groups]
        generators += [group.negative_generators for group in pairs]

        counts = torch.tensor([len(of_text) for of_text in slots])
        image_text = torch.repeat_interleave(torch.arange(len(texts)), counts)
        text_negative = torch.arange(len(texts)) >= len(draw.groups)
        layout = Layout.of(image_text, text_negative)
        return Batch(
            step=draw.step,
            mix=mix,
            images=self._staging.load(self._ring, [slot for of_text in slots for slot in of_text]),
            tokens=self._tokenizer(texts).to(self._device, non_blocking=True),
            layout=layout.to(self._device),
            texts=tuple(texts),
            generators=tuple(g for of_text in generators for g in of_text),
            plain_tasks=tuple(group.task_id for group in draw.groups if group.kind is Kind.PLAIN),
            pair_tasks=tuple(group.task_id for group in pairs),
            waited_s=draw.waited_s,
        )
