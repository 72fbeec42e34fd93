"""Parse overrides of a config from command-line words, and apply them to its tables."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any, Literal, get_origin

from polygen_stream.base.errors import UserError
from polygen_stream.config.explain import explain_unknown_option
from polygen_stream.config.keys import all_keys


def parse_overrides(words: Sequence[str], other_options: Sequence[str] = ()) -> dict[str, str]:
    """Parse command-line words to {dotted key: text}; the last one of a repeated key wins.

    Args:
        words: "--key", "VALUE" or "--key=VALUE" each.
        other_options: Further option names (without dashes) that a misspelt word may have meant.

    Returns:
        The text of each key's value, not yet parsed.

    Raises:
        UserError: A key is unknown or has been renamed, an override has no value, or a value no override.
    """
    known = all_keys()
    pairs: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        dotted = option.removeprefix("--")
        if dotted == option:
            raise UserError(f"unexpected argument {word!r}: overrides read --section.key VALUE")
        if dotted not in known:
            raise UserError(explain_unknown_option(dotted, other_options))
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{option} has no value: write {option} VALUE")
            value = rest.pop(0)
        pairs[dotted] = value
    return pairs


def positional_indices(words: Sequence[str]) -> list[int]:
    """Return the indices of the words that are neither an option nor an option's value."""
    found, after_option = [], False
    for index, word in enumerate(words):
        if not word.startswith("-") and not after_option:
            found.append(index)
        after_option = word.startswith("--") and "=" not in word
    return found


def split_config_name(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split CONFIG, the first word that is neither an option nor an option's value, from the other words."""
    for index in positional_indices(words)[:1]:
        return words[index], [*words[:index], *words[index + 1 :]]
    return None, list(words)


def apply_override(values: dict[str, Any], dotted: str, text: str) -> None:
    """Set one key in the tables of a config.

    Args:
        values: Tables as a TOML file has them; changed in place.
        dotted: The key, e.g. "train.steps".
        text: Its value as on the command line.

    Raises:
        UserError: There is no such key.
    """
    key = all_keys().get(dotted)
    if key is None:
        raise UserError(explain_unknown_option(dotted))
    table = values.setdefault(key.section, {}) if key.section else values
    if not isinstance(table, dict):
        return  # the file has a plain value where the section belongs: validation refuses it
    table[key.leaf] = _parse_value(text, key.annotation)


def _parse_value(text: str, annotation: Any) -> Any:
    if annotation is str or (get_origin(annotation) is Literal):
        return text
    if get_origin(annotation) is tuple and not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, a number of too many digits, lists in lists without end
        return text
    return parsed["value"] if len(parsed) == 1 else text
