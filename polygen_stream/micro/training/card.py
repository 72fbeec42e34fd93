"""The card in a micro model's folder: how the weights were trained, their metrics, and their hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polygen_stream.assets.resources import weights_hash

CARD = "card.json"


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a model folder, {"cycles": [...], "metrics": {...}, "sha256": ...}; {} if there is none."""
    path = folder / CARD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write a card and the hash of the current weights."""
    card = {**card, "sha256": weights_hash(folder)}
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
