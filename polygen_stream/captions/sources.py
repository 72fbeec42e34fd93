"""The registry of caption sources: config value -> source."""

from __future__ import annotations

from polygen_stream.captions.base import CaptionSource
from polygen_stream.config import CaptionsConfig


def caption_source(config: CaptionsConfig) -> CaptionSource:
    match config.source:
        case "grammar":
            from polygen_stream.captions.grammar import GrammarSource

            return GrammarSource()
