"""The registry of caption sources: config value -> source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygen_stream.captions.banks.registry import bank_of
from polygen_stream.captions.base import CaptionSource
from polygen_stream.config import CaptionsConfig

if TYPE_CHECKING:
    from polygen_stream.captions.models.language_model import LanguageModel


def caption_source(config: CaptionsConfig) -> CaptionSource:
    """The source of a config, its models loaded.

    Raises:
        UserError: the bank or a language model cannot be loaded, or the latter not be reached.
    """
    if config.source == "grammar":
        from polygen_stream.captions.grammar import GrammarSource

        return GrammarSource()
    from polygen_stream.captions.models.language_model import LanguageModelSource

    return LanguageModelSource(bank_of(config), *language_models(config), config.retries)


def language_models(config: CaptionsConfig) -> tuple[LanguageModel, LanguageModel]:
    """The model that writes captions and the one that edits them, under the config's sampling; one may be both.

    Raises:
        UserError: one of them cannot be loaded or reached.
    """
    endpoint, editor_endpoint = config.endpoint, config.editor_endpoint or config.endpoint
    writer = _language_model(config, config.writer, endpoint)
    if (config.editor, editor_endpoint) == (config.writer, endpoint):
        return writer, writer
    try:
        return writer, _language_model(config, config.editor, editor_endpoint)
    except BaseException:
        writer.close()
        raise


def _language_model(config: CaptionsConfig, name: str, endpoint: str) -> LanguageModel:
    sampling = {"temperature": config.temperature, "top_p": config.top_p, "max_tokens": config.max_tokens}
    match config.source:
        case "transformers":
            from polygen_stream.captions.models.transformers_model import TransformersModel

            return TransformersModel(name, device=config.device, dtype=config.dtype, batch=config.batch, **sampling)
        case "vllm":
            from polygen_stream.captions.models.vllm_model import VllmModel

            return VllmModel(
                name,
                device=config.device,
                dtype=config.dtype,
                batch=config.batch,
                structured_output_regex=config.structured_output_regex,
                gpu_memory_utilization=config.gpu_memory_utilization,
                can_sleep=config.sleep_after_s > 0,
                **sampling,
            )
        case "openai":
            from polygen_stream.captions.models.openai_model import OpenAIModel

            return OpenAIModel(
                name,
                endpoint=endpoint,
                in_flight=config.batch,
                timeout_s=config.timeout_s,
                structured_output_regex=config.structured_output_regex,
                **sampling,
            )
    raise AssertionError(config.source)
