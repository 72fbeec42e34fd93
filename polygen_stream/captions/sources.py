"""The registry of caption sources: config value -> source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygen_stream.captions.banks import bank_of
from polygen_stream.captions.base import CaptionSource
from polygen_stream.config import CaptionsConfig

if TYPE_CHECKING:
    from polygen_stream.captions.language_model import LanguageModel


def caption_source(config: CaptionsConfig) -> CaptionSource:
    """The source of a config, its models loaded.

    Raises:
        UserError: the bank or a language model cannot be loaded.
    """
    match config.source:
        case "grammar":
            from polygen_stream.captions.grammar import GrammarSource

            return GrammarSource()
        case "transformers":
            from polygen_stream.captions.language_model import LanguageModelSource

            return LanguageModelSource(bank_of(config), *language_models(config), config.retries)


def language_models(config: CaptionsConfig) -> tuple[LanguageModel, LanguageModel]:
    """The model that writes captions and the one that edits them, under the config's sampling.

    Raises:
        UserError: one of them cannot be loaded.
    """
    from polygen_stream.captions.transformers import TransformersModel

    writer, editor = (
        TransformersModel(
            name,
            device=config.device,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_tokens,
            batch=config.batch,
        )
        for name in (config.writer, config.editor)
    )
    return writer, editor
