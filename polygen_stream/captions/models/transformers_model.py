"""A language model run by transformers in the captioner's process."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList

from polygen_stream.assets.hub import download_command, language_model
from polygen_stream.assets.resources import model_folder, model_path, weights_hash
from polygen_stream.base.errors import UserError
from polygen_stream.base.seeding import key
from polygen_stream.captions.banks.base import Messages, ModelReply
from polygen_stream.captions.models.chat import check_chat_template, render_chat
from polygen_stream.captions.models.language_model import LanguageModel


class KeyedSampling(LogitsProcessor):
    """Sampling with one seed per row: leaves each row a single token, drawn from its nucleus.

    With greedy decoding after it, this samples as usual, but the token of a row depends on the seed and the logits of
    that row alone, not on the other rows of the batch.

    Args:
        seeds: one per row.
        temperature: divides the logits; 0 selects the most likely token.
        top_p: the most likely tokens up to this total probability are kept (nucleus sampling, arXiv 1904.09751).
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self._seeds, self._temperature, self._top_p, self._drawn = seeds, temperature, top_p, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores with -inf for all tokens but the drawn one.

        Args:
            input_ids: not used.
            scores: logits, float [rows, vocabulary].
        """
        if self._temperature == 0:
            return scores
        p, order = (scores.double() / self._temperature).softmax(-1).sort(-1, descending=True)
        before = p.cumsum(-1) - p
        p = p.masked_fill(before >= self._top_p, 0)
        uniform = torch.tensor([key(seed, "token", self._drawn) / 2**64 for seed in self._seeds], device=p.device)
        reached = p.cumsum(-1) > (uniform * p.sum(-1)).unsqueeze(-1)  # [rows, vocabulary], in order of probability
        chosen = order.gather(-1, reached.int().argmax(-1, keepdim=True))
        self._drawn += 1
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)


class TransformersModel(LanguageModel):
    """A causal language model with a chat template.

    Args:
        name: "package:NAME" for a shipped model, a local folder, or a hub id.
        device: "cpu" or a CUDA device.
        dtype: a torch dtype by name; "auto" is the model's own, but float32 on a CPU.
        temperature: of the sampling; 0 is greedy.
        top_p: of the sampling.
        max_tokens: length of the longest reply.
        batch: number of prompts per forward pass.

    Raises:
        UserError: the model cannot be loaded, or its tokenizer has no chat template.
    """

    def __init__(
        self, name: str, *, device: str, dtype: str, temperature: float, top_p: float, max_tokens: int, batch: int
    ) -> None:
        self._name, source, revision = name, model_path(name), language_model(name).revision
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        transformers.utils.logging.disable_progress_bar()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                source, revision=revision, local_files_only=offline, padding_side="left"
            )
            # Any: decorators hide the signatures of the methods `to` and `generate` from type checkers.
            model: Any = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                dtype="float32" if device == "cpu" and dtype == "auto" else dtype,
                use_safetensors=True,
                local_files_only=offline,
            )
            self._model = model.to(device)
        # A broken folder can raise any error of the libraries below from_pretrained.
        except Exception as problem:
            logging.exception("loading %s", source)
            raise UserError(
                f"language model {name}: cannot load {source}: {type(problem).__name__}: {problem}; give a folder or "
                f"hub id that transformers' AutoModelForCausalLM reads, downloaded beforehand: "
                f"{download_command(name, revision)}"
            ) from None
        check_chat_template(self._tokenizer, name)
        self._model.eval()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._device, self._batch = device, batch
        self._temperature, self._top_p, self._max_tokens = temperature, top_p, max_tokens
        self._queue: deque[tuple[int, Messages, int]] = deque()

    @property
    def provenance(self) -> Mapping[str, object]:
        """The model, the hash of its weights, the version of transformers, the dtype and the sampling."""
        return {
            "model": self._name,
            "sha256": weights_hash(model_folder(self._name)),
            "engine": f"transformers {transformers.__version__}",
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "temperature": self._temperature,
            "top_p": self._top_p,
            "max_tokens": self._max_tokens,
        }

    def parameters(self) -> int:
        """Return the number of parameters of the model."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    @property
    def pending(self) -> int:
        """Number of requests whose replies `step` has not returned."""
        return len(self._queue)

    def submit(self, number: int, prompt: Messages, seed: int) -> None:
        """Queue a request."""
        self._queue.append((number, prompt, seed))

    def step(self) -> list[tuple[int, ModelReply]]:
        """Answer the oldest requests, up to a whole batch. Must be called with pending requests."""
        batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
        numbers, prompts, seeds = zip(*batch, strict=True)
        return list(zip(numbers, self._complete(prompts, seeds), strict=True))

    def sleep(self) -> int:
        """Move the weights from the GPU to main memory and return how many bytes that freed; 0 on a CPU."""
        if self._device == "cpu" or self._model.device.type == "cpu":
            return 0
        before = torch.cuda.memory_allocated(self._device)
        self._model.to("cpu")
        torch.cuda.empty_cache()
        return before - torch.cuda.memory_allocated(self._device)

    @torch.inference_mode()
    def _complete(self, prompts: Sequence[Messages], seeds: Sequence[int]) -> list[ModelReply]:
        if self._model.device.type != torch.device(self._device).type:  # after sleep()
            self._model.to(self._device)
        chats = [render_chat(self._tokenizer, prompt) for prompt in prompts]
        inputs = self._tokenizer(chats, padding=True, add_special_tokens=False, return_tensors="pt").to(self._device)
        sampling = KeyedSampling(seeds, self._temperature, self._top_p)
        out = self._model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=self._max_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            logits_processor=LogitsProcessorList([sampling]),
            pad_token_id=self._tokenizer.pad_token_id,
        )
        replies = out[:, inputs.input_ids.shape[1] :]
        end = replies == self._tokenizer.eos_token_id  # [rows, tokens]; everything after the first end token is padding
        self.tokens += int((end.cumsum(1) - end.long() == 0).sum())
        return [
            ModelReply(self._tokenizer.decode(row, skip_special_tokens=True).strip(), finished)
            for row, finished in zip(replies, end.any(1).tolist(), strict=True)
        ]
