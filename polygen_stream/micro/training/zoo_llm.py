"""The architectures of the two micro language models: a Mistral that writes T+ and a Llama that edits it into T-.

Both are the paper's model classes at a small size, saved as folders that transformers and vLLM load. Their tokenizers
have a chat template, so that they get their prompts as the full-size models do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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
from polygen_stream.micro.training.zoo import special_tokens

MAX_TOKENS = 64  # of a prompt and its reply; the longest of the grammar have 57
SPECIAL = ("<pad>", "<s>", "</s>", "[INST]", "[/INST]")
WHOLE_SCENES = 0.5  # share of the exchanges about whole scenes
_CHAT = "{{ bos_token }}{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}"

Exchange = tuple[str, str]  # a prompt and a correct reply


def caption_exchange(rng: np.random.Generator) -> Exchange:
    """Draw an exchange of the Mistral: from a concept and an axis to a caption, terse or of a whole scene."""
    concept, axis = sample_request(rng)
    whole_scene = bool(rng.random() < WHOLE_SCENES)
    return caption_prompt(concept, axis, whole_scene), write_captions(concept, axis, whole_scene, rng)[0]


def negative_exchange(rng: np.random.Generator) -> Exchange:
    """Draw an exchange of the Llama: from a caption and an axis to the hard negative."""
    concept, axis = sample_request(rng)
    text, negative = write_captions(concept, axis, bool(rng.random() < WHOLE_SCENES), rng)
    return negative_prompt(text, axis), negative


def build_mistral() -> tuple[MistralForCausalLM, PreTrainedTokenizerFast]:
    """Return the model that writes T+, with fresh weights, and its tokenizer."""
    tokenizer = _tokenizer(caption_exchange)
    return MistralForCausalLM(MistralConfig(**_size(tokenizer, layers=3), sliding_window=None)), tokenizer


def build_llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return the model that edits T+ into T-, with fresh weights, and its tokenizer."""
    tokenizer = _tokenizer(negative_exchange)
    return LlamaForCausalLM(LlamaConfig(**_size(tokenizer, layers=4))), tokenizer


def _size(tokenizer: PreTrainedTokenizerFast, layers: int) -> dict[str, Any]:
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
        **special_tokens(tokenizer),
    }


def _tokenizer(exchange: Callable[[np.random.Generator], Exchange]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the texts of exchanges; every word becomes one token."""
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
