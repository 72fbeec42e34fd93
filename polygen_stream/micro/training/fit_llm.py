"""Training loop of the micro language models: next token, on answers only, over exchanges sampled as it goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polygen_stream.micro.training.optimize import Log, Optimization
from polygen_stream.micro.training.zoo_llm import Exchange

_UNTRAINED = -100  # label of a position that costs nothing; cross_entropy's default ignore_index
BANK = 60000  # exchanges sampled at a time; each is trained on about twice before the next bank


def fit_language_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    exchange: Callable[[np.random.Generator], Exchange],
    *,
    seed: int,
    steps: int,
    batch: int,
    lr: float,
    log: Log,
    snapshot: Callable[[int], None],
) -> float:
    """Train on what the grammar would answer; returns the final averaged loss in nats per token.

    `snapshot(step)` is called with averaged weights in place every 1,000 steps and at the end.
    """
    rng = np.random.default_rng(seed)
    optimization = Optimization(model.parameters(), steps, lr, log, weight_decay=0.01, warm_up=0.05)
    model.train()
    bank: list[tuple[list[int], list[int]]] = []
    for step in range(steps):
        if step % max(1, 2 * BANK // batch) == 0:
            bank = [_encode(tokenizer, *exchange(rng)) for _ in range(BANK)]
        ids, labels = _padded([bank[int(i)] for i in rng.integers(len(bank), size=batch)], tokenizer.pad_token_id)
        logits = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits
        optimization.step(nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()))
        optimization.snapshot(snapshot)
    optimization.ema.swap()
    model.eval()
    return optimization.loss


def _encode(tokenizer: PreTrainedTokenizerBase, asked: str, answer: str) -> tuple[list[int], list[int]]:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": asked}], tokenize=False)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    answered = [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return ids, answered


def _padded(exchanges: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and labels, int64 [n, longest], padded on the right."""
    longest = max(len(a) + len(b) for a, b in exchanges)
    ids = torch.full((len(exchanges), longest), pad)
    labels = torch.full_like(ids, _UNTRAINED)
    for row, (asked, answer) in enumerate(exchanges):
        end = len(asked) + len(answer)
        ids[row, :end] = torch.tensor(asked + answer)
        labels[row, len(asked) : end] = torch.tensor(answer)
    return ids, labels
