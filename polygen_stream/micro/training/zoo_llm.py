"""The architectures of the two micro language models: Mistral writes base captions, Llama hard negatives.

Both are the paper's model classes in miniature, saved as folders that transformers and vLLM read. Their tokenizers
bring a chat template, so that they are asked as the full-size models are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from polygen_stream.micro.language import caption_prompt, negative_prompt, sample_request, write_captions

MAX_TOKENS = 64  # a prompt and its answer; the longest pair of the grammar has 57
SPECIAL = ("<pad>", "<s>", "</s>", "[INST]", "[/INST]")
_CHAT = "{{ bos_token }}{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}"

Exchange = tuple[str, str]  # what is asked, what a right answer is


def caption_exchange(rng: np.random.Generator) -> Exchange:
    """Mistral's task: a concept and an axis to a caption."""
    concept, axis = sample_request(rng)
    return caption_prompt(concept, axis), write_captions(concept, axis, rng)[0]


def negative_exchange(rng: np.random.Generator) -> Exchange:
    """Llama's task: a caption and an axis to the caption with one thing changed."""
    concept, axis = sample_request(rng)
    text, negative = write_captions(concept, axis, rng)
    return negative_prompt(text, axis), negative


def build_mistral() -> tuple[MistralForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = _tokenizer(caption_exchange)
    return MistralForCausalLM(MistralConfig(**_size(tokenizer, layers=3), sliding_window=None)), tokenizer


def build_llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = _tokenizer(negative_exchange)
    return LlamaForCausalLM(LlamaConfig(**_size(tokenizer, layers=4))), tokenizer


def _size(tokenizer: PreTrainedTokenizerFast, layers: int) -> dict[str, object]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": MAX_TOKENS,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _tokenizer(exchange: Callable[[np.random.Generator], Exchange]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer over the task's texts; every word becomes one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=list(SPECIAL), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator(_texts(exchange), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["[INST]", "[/INST]"],
        chat_template=_CHAT,
        model_max_length=MAX_TOKENS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _texts(exchange: Callable[[np.random.Generator], Exchange]) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for _ in range(4000):
        yield from exchange(rng)
