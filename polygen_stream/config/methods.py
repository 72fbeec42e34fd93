"""Methods: named sets of the options by which readings of PolyGen differ. docs/method.md has their sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Method = Literal["digest", "author"]

METHODS: Mapping[Method, Mapping[str, Mapping[str, Any]]] = {
    # What the paper's abstract and a digest of it say, read by us. These are the defaults of the schema.
    "digest": {
        "curriculum": {"kind": "share"},
        "train": {"hn_t2i": "same_polarity", "hn_weight": "text_share"},
    },
    # What training code under the name of the paper's first author does.
    "author": {
        "curriculum": {"kind": "co_occurrence"},
        "train": {"hn_t2i": "same_polarity", "hn_weight": "one"},
    },
}


def options_of(method: object) -> dict[str, Any]:
    """Return {dotted key: value} of a method; nothing for what is none, which the schema refuses."""
    tables = next((tables for name, tables in METHODS.items() if name == method), {})
    return {f"{section}.{key}": value for section, keys in tables.items() for key, value in keys.items()}
