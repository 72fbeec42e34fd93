"""Trains the micro language models: next-token prediction of the replies, on exchanges drawn while training."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polygen_stream.micro.training.optimize import Log, Optimization
from polygen_stream.micro.training.zoo_llm import Exchange

_UNTRAINED = -100  # label of positions without a loss; the default ignore_index of cross_entropy
POOL = 60000  # exchanges drawn at a time; each is used about twice before the next pool


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
    """Train a language model on the replies of the grammar.

    Args:
        model: the model, trained in place.
        tokenizer: its tokenizer.
        exchange: draws a prompt and its reply.
        seed: of the exchanges.
        steps: training steps.
        batch: exchanges per step.
        lr: peak learning rate.
        log: receives progress lines.
        snapshot: called with the step, with averaged weights in place, every 1,000 steps and at the end.

    Returns:
        The final averaged loss in nats per token.
    """
    pad = cast(int, tokenizer.pad_token_id)  # the micro tokenizers have one; the declared type allows more
    rng = np.random.default_rng(seed)
    optimization = Optimization(model.parameters(), steps, lr, log, weight_decay=0.01, warm_up=0.05)
    model.train()
    pool: list[tuple[list[int], list[int]]] = []
    for step in range(steps):
        if step % max(1, 2 * POOL // batch) == 0:
            pool = [_encode(tokenizer, *exchange(rng)) for _ in range(POOL)]
        ids, labels = _padded([pool[int(i)] for i in rng.integers(len(pool), size=batch)], pad)
        logits = model(input_ids=ids, attention_mask=(ids != pad).long()).logits
        optimization.step(nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()))
        optimization.snapshot(snapshot)
    optimization.ema.swap()
    model.eval()
    return optimization.loss


def _encode(tokenizer: PreTrainedTokenizerBase, prompt: str, reply: str) -> tuple[list[int], list[int]]:
    # A string because of tokenize=False, which the declared return type does not show.
    chat = cast(str, tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False))
    prompt_ids = tokenizer(chat, add_special_tokens=False).input_ids
    reply_ids = [*tokenizer(reply, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return prompt_ids, reply_ids


def _padded(exchanges: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Return token ids and labels, int64 [n, longest], padded on the right."""
    longest = max(len(prompt) + len(reply) for prompt, reply in exchanges)
    ids = torch.full((len(exchanges), longest), pad)
    labels = torch.full_like(ids, _UNTRAINED)
    for row, (prompt, reply) in enumerate(exchanges):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        labels[row, len(prompt) : end] = torch.tensor(reply)
    return ids, labels
