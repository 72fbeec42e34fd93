"""What the values of a JSON object may be: what is not is damaged, or another program's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

Kinds = Mapping[str, Callable[[Any], bool]]


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold, and neither NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_count(value: Any) -> bool:
    """Whether a value is an integer from 0 to 2**63 - 1."""
    return type(value) is int and 0 <= value < 2**63


def is_text(value: Any) -> bool:
    """Whether a value is a string."""
    return isinstance(value, str)


def is_list(value: Any) -> bool:
    """Whether a value is a list."""
    return isinstance(value, list)


def is_object(value: Any) -> bool:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def is_tree_of(is_leaf: Callable[[Any], bool], depth: int) -> Callable[[Any], bool]:
    """Return a test for an object of such leaves, or of such objects in turn, down to a depth of at least 1."""
    inner = is_tree_of(is_leaf, depth - 1) if depth > 1 else is_leaf

    def is_tree(value: Any) -> bool:
        return is_object(value) and all(is_leaf(part) or inner(part) for part in value.values())

    return is_tree


def is_feedback(value: Any) -> bool:
    """Whether a value is `feedback` of a line of metrics.jsonl: means and weights of axes and generators by name."""

    def is_row(row: Any) -> bool:
        numbers = is_object(row) and all(map(is_number, row.values()))
        return numbers and row.keys() >= {"loss", "correct", "weight"}

    return (
        is_object(value)
        and value.keys() == {"axes", "generators"}
        and all(is_object(rows) and all(map(is_row, rows.values())) for rows in value.values())
    )


def wrong_values(record: Mapping[str, Any], kinds: Kinds) -> list[str]:
    """Return the keys of a record whose values are not of their kind. Keys that it lacks are not among them."""
    return [key for key, is_right in kinds.items() if key in record and not is_right(record[key])]
