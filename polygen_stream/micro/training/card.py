"""The card beside a micro model's weights: what made them, how good they are, and the hash they are frozen by."""

from __future__ import annotations

import json
from pathlib import Path

from polygen_stream.assets.resources import weights_hash

CARD = "card.json"


def read_card(folder: Path) -> dict[str, object]:
    """{"cycles": [...], "metrics": {...}, "sha256": ...} of a model folder; empty if it has none."""
    path = folder / CARD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_card(folder: Path, card: dict[str, object]) -> None:
    """Write the card, with the hash of the weights as they are now."""
    card = {**card, "sha256": weights_hash(folder)}
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
