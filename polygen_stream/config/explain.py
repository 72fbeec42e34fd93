"""Messages for what the schema refuses: unknown keys with the nearest name, wrong values with what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pydantic import ValidationError

from polygen_stream.base.validation import expected, first_error, shown
from polygen_stream.config.keys import config_keys
from polygen_stream.config.renamed import RENAMED_KEYS, renamed_option

_OWN_WORDS = {
    "tuple_type": "a list of strings",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', starting with a letter or digit",
}


def explain_unknown_key(dotted: str) -> str:
    """Return the message for a key that the schema does not have."""
    if new := RENAMED_KEYS.get(dotted):
        return f"key {dotted} has been renamed: write {new}"
    return f"unknown key {dotted}: {_nearest(dotted)}"


def explain_unknown_option(dotted: str, others: Sequence[str] = ()) -> str:
    """Return the message for an option that does not exist.

    Args:
        dotted: Its name without dashes.
        others: Options of the command beside the keys, likewise; none = any.
    """
    if new := renamed_option(dotted, others):
        return f"option --{dotted} has been renamed: write --{new}"
    return f"unknown option --{dotted}: {_nearest(dotted, others, prefix='--')}"


def explain_validation(problem: ValidationError, file: str, origins: Mapping[str, str]) -> str:
    """Return one line on the first error of a validation.

    Args:
        problem: What pydantic raised.
        file: File that the values come from.
        origins: Options that values come from instead, by dotted key.
    """
    first = first_error(problem)
    # Positions inside a list are part of pydantic's location; the key is what a user can look up.
    dotted = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    if first["type"] == "extra_forbidden":
        return f"{file}: {explain_unknown_key(dotted)}"
    where = origins.get(dotted, f"{file}: {dotted}")
    wanted = str(first["ctx"]["error"]) if first["type"] == "value_error" else _OWN_WORDS.get(first["type"])
    return f"{where} = {shown(first['input'])}, expected {wanted or expected(first, dotted)}"


def _nearest(dotted: str, others: Sequence[str] = (), prefix: str = "") -> str:
    """Return a hint at the key that was meant: the most similar one of the same last name first, then of any."""
    known = [*config_keys(), *others]
    last = {name: name.rpartition(".")[2] for name in known}
    wanted = dotted.rpartition(".")[2]
    close = (
        get_close_matches(dotted, [name for name in known if last[name] == wanted], n=1, cutoff=0.0)
        or get_close_matches(dotted, known, n=1)
        or [name for name in known if last[name] in get_close_matches(wanted, last.values(), n=1)]
    )
    return f"did you mean {prefix}{close[0]}?" if close else "`polygen-stream config` prints every key"
