"""Chat templates: from messages to the text that a model continues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import TemplateError

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.base import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_chat_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises UserError when the model's tokenizer does not say how a chat looks."""
    if tokenizer.chat_template is None:
        raise UserError(f"language model {name}: its tokenizer has no chat template; use an instruction model")


def render_chat(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> str:
    """The chat up to where the reply begins, special tokens included.

    A template without a place for a system turn, as Mistral-7B-Instruct-v0.2's, gets it at the beginning of the user's.

    Raises:
        UserError: the template refuses the chat all the same.
    """
    try:
        return _rendered(tokenizer, prompt)
    except TemplateError:
        return _rendered_without_system(tokenizer, prompt)


def _rendered(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> str:
    return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)


def _rendered_without_system(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> str:
    system = [message["content"] for message in prompt if message["role"] == "system"]
    first, *rest = [message for message in prompt if message["role"] != "system"]
    try:
        return _rendered(tokenizer, [{**first, "content": "\n\n".join([*system, first["content"]])}, *rest])
    except TemplateError as problem:
        roles = ", ".join(message["role"] for message in prompt)
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} refuses a chat of the turns {roles}: {problem}; use an "
            "instruction model"
        ) from None
