"""Prompts in chat templates like those of the paper's models, rendered by a real tokenizer."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.prompts import caption_prompt, negative_prompt
from polygen_stream.captions.models.chat import check_chat_template, render_chat
from polygen_stream.captions.verification.axes import AXES

# Mistral-7B-Instruct-v0.2 has user and assistant turns only, Llama-3.1 system turns, too.
MISTRAL = """{% for turn in messages %}{% if (turn.role == 'user') != (loop.index0 is divisibleby 2) %}
{{ raise_exception('user and assistant have to take turns') }}{% endif %}
[INST] {{ turn.content }} [/INST]{% endfor %}"""
LLAMA = """{% for turn in messages %}<|start_header_id|>{{ turn.role }}<|end_header_id|>

{{ turn.content }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(SHIPPED_WEIGHTS / "llama", local_files_only=True)


def test_every_prompt_fits_both_templates(tokenizer):
    for axis in AXES.values():
        for prompt in (caption_prompt("fire engine", axis, True), negative_prompt("a red fire engine", axis)):
            tokenizer.chat_template = LLAMA
            llama = render_chat(tokenizer, prompt)
            assert llama.count("<|start_header_id|>") == len(prompt) + 1
            assert llama.rstrip().endswith("<|start_header_id|>assistant<|end_header_id|>")
            tokenizer.chat_template = MISTRAL
            mistral = render_chat(tokenizer, prompt)
            assert mistral.count("[INST]") == 1 and mistral.rstrip().endswith("[/INST]")
            for message in prompt:
                assert message["content"] in mistral and message["content"] in llama


def test_a_template_that_rejects_every_chat_is_a_one_line_error(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(UserError, match="refuses a chat of the turns system, user: never"):
        render_chat(tokenizer, negative_prompt("a red dog", AXES["colour"]))
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="language model m: its tokenizer has no chat template"):
        check_chat_template(tokenizer, "m")
