"""Registries: the parts of one kind by name, and parts of the user's own by "module:attribute".

A part is imported when it is used: config and command line know every name and load nothing. What a part of each kind
has to do is said by `CaptionSource` (captions/base.py), `Backend` (engine/backends/base.py), `Objective`
(train/objectives.py), `Policy` (synthesis/policy.py) and `Sampler` (ring/sampler.py).
"""

from polygen_stream.registry.builtin import (
    CAPTION_SOURCES,
    ENGINE_BACKENDS,
    OBJECTIVES,
    POLICIES,
    REGISTRIES,
    SAMPLERS,
)
from polygen_stream.registry.registry import Registry, is_own

__all__ = [
    "CAPTION_SOURCES",
    "ENGINE_BACKENDS",
    "OBJECTIVES",
    "POLICIES",
    "REGISTRIES",
    "SAMPLERS",
    "Registry",
    "is_own",
]
