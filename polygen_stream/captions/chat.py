"""Chat templates: from messages to the text that a model continues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import TemplateError

from polygen_stream.captions.bank import Messages
from polygen_stream.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_chat_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises UserError when the model's tokenizer does not say how a chat looks."""
    if tokenizer.chat_template is None:
        raise UserError(f"language model {name}: its tokenizer has no chat template; use an instruction model")


def as_chat(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> str:
    """The chat up to where the reply begins, special tokens included.

    Raises:
        UserError: the template has no place for one of the messages, as Mistral-7B-Instruct-v0.2's for a system turn.
    """
    try:
        return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    except TemplateError as problem:
        roles = ", ".join(message["role"] for message in prompt)
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} refuses a chat of the turns {roles}: {problem}; use a "
            "model whose template has them"
        ) from None
