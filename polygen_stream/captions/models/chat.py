"""Chat templates: from messages to the text that a model continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from jinja2 import TemplateError

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.base import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_chat_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Check that a model's tokenizer has a chat template.

    Args:
        tokenizer: the tokenizer.
        name: the model, for the error message.

    Raises:
        UserError: it has none.
    """
    if tokenizer.chat_template is None:
        raise UserError(f"language model {name}: its tokenizer has no chat template; use an instruction model")


def render_chat(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> str:
    """Return the text of a chat up to where the reply begins, special tokens included.

    If the template has no system turn, as that of Mistral-7B-Instruct-v0.2, the system message is put before the first
    message of the user.

    Args:
        tokenizer: a tokenizer with a chat template.
        prompt: the messages.

    Raises:
        UserError: the template rejects the chat in both forms.
    """
    try:
        return _apply_template(tokenizer, prompt)
    except TemplateError:
        pass
    system = [message["content"] for message in prompt if message["role"] == "system"]
    first, *others = [message for message in prompt if message["role"] != "system"]
    try:
        return _apply_template(tokenizer, [{**first, "content": "\n\n".join([*system, first["content"]])}, *others])
    except TemplateError as problem:
        roles = ", ".join(message["role"] for message in prompt)
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} refuses a chat of the turns {roles}: {problem}; use an "
            "instruction model"
        ) from None


def _apply_template(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> str:
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return cast(str, text)  # a string because of tokenize=False, which the declared return type does not show
