"""Caption sources: from captions.source to a source that is ready to write.

A source of the user's own is a class or function, `captions.source = "module:attribute"`, that is called with the run's
[captions] table in the captioner's interpreter and returns a `CaptionSource` (base.py). What it needs beyond the keys
of that table, it brings along: `concepts` and `axes` are its own, and captions.bank then only says what evaluation is
about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.registry import bank_of
from polygen_stream.captions.base import CaptionSource
from polygen_stream.config import CaptionsConfig
from polygen_stream.registry import CAPTION_SOURCES

if TYPE_CHECKING:
    from polygen_stream.captions.models.language_model import LanguageModel


def caption_source(config: CaptionsConfig) -> CaptionSource:
    """Return the source of a config, its models loaded.

    Raises:
        UserError: The bank or a language model cannot be loaded, or the latter not be reached; or a source of the
            user's own cannot be imported or called, or is no CaptionSource.
    """
    source = CAPTION_SOURCES.load(config.source)(config)
    if not isinstance(source, CaptionSource):
        raise UserError(
            f"captions.source = {config.source!r} returned {type(source).__name__}, which is no subclass of "
            "polygen_stream.captions.base.CaptionSource"
        )
    return source


def grammar_source(config: CaptionsConfig) -> CaptionSource:
    """Return the source of captions.source = "grammar"."""
    from polygen_stream.captions.grammar import GrammarSource

    return GrammarSource(config.scene_share)


def language_model_source(config: CaptionsConfig) -> CaptionSource:
    """Return the source of captions.source = "transformers", "vllm" or "openai": two language models about a bank.

    Raises:
        UserError: The bank or a language model cannot be loaded, or the latter not be reached.
    """
    from polygen_stream.captions.models.language_model import LanguageModelSource

    return LanguageModelSource(bank_of(config), *language_models(config), config.retries, config.scene_share)


def language_models(config: CaptionsConfig) -> tuple[LanguageModel, LanguageModel]:
    """Load the model that writes captions and the one that edits them, under the config's sampling; one may be both.

    Raises:
        UserError: One of them cannot be loaded or reached.
    """
    load = LANGUAGE_MODELS[config.source]
    endpoint, editor_endpoint = config.endpoint, config.editor_endpoint or config.endpoint
    writer = load(config, config.writer, endpoint)
    if (config.editor, editor_endpoint) == (config.writer, endpoint):
        return writer, writer
    try:
        return writer, load(config, config.editor, editor_endpoint)
    except BaseException:
        writer.close()
        raise


def _transformers(config: CaptionsConfig, name: str, _endpoint: str) -> LanguageModel:
    from polygen_stream.captions.models.transformers_model import TransformersModel

    return TransformersModel(
        name,
        device=config.device,
        dtype=config.dtype,
        batch=config.batch,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
    )


def _vllm(config: CaptionsConfig, name: str, _endpoint: str) -> LanguageModel:
    from polygen_stream.captions.models.vllm_model import VllmModel

    return VllmModel(
        name,
        device=config.device,
        dtype=config.dtype,
        batch=config.batch,
        structured_output_regex=config.structured_output_regex,
        gpu_memory_utilization=config.gpu_memory_utilization,
        can_sleep=config.sleep_after_s > 0,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
    )


def _openai(config: CaptionsConfig, name: str, endpoint: str) -> LanguageModel:
    from polygen_stream.captions.models.openai_model import OpenAIModel

    return OpenAIModel(
        name,
        endpoint=endpoint,
        in_flight=config.batch,
        timeout_s=config.timeout_s,
        structured_output_regex=config.structured_output_regex,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
    )


LANGUAGE_MODELS: dict[str, Callable[[CaptionsConfig, str, str], LanguageModel]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
}
