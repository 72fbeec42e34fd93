"""One line on what pydantic refuses in a user's file.

An unknown key comes with the nearest name, a value with what is expected; a whole table is never printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_LONGEST = 200  # characters of a value in a message


def explain(problem: ValidationError, table: type[BaseModel], hidden: Sequence[str] = ()) -> str:
    """Return one line on a validation, without the file.

    Args:
        problem: What pydantic raised.
        table: The model that was validated.
        hidden: Fields of its top table that a file cannot set.
    """
    error = first_error(problem)
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = [name for name in _keys(table, error["loc"][:-1]) if len(error["loc"]) > 1 or name not in hidden]
        return f"unknown key {key}{did_you_mean(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return f"{key} is missing, and has no default"
    if error["type"] == "value_error":  # of a check of ours: it names the keys itself
        return str(error.get("ctx", {}).get("error"))
    return f"{key}: expected {expected(error, key)}, got {shown(error['input'])}"


def first_error(problem: ValidationError) -> Mapping[str, Any]:
    """Return the error to report: an unknown key before all else, for a misspelt key is a missing one as well."""
    errors = problem.errors()
    return next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])


def shown(value: Any) -> str:
    """Return a value as a message shows it: tables, and lists of more than a line, are cut."""
    if isinstance(value, dict):
        return "{...}"
    text = repr(value)
    if isinstance(value, list | tuple) and ("{" in text or len(text) > _LONGEST):
        return "[...]"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ": did you mean NAME?" with the nearest of the known names; "" where none is known."""
    near = get_close_matches(name, list(known), n=1, cutoff=0)
    return f": did you mean {near[0]}?" if near else ""


def expected(error: Mapping[str, Any], key: str) -> str:
    """Return what a value should have been.

    Args:
        error: One of pydantic's.
        key: Dotted name of the key.
    """
    context = error.get("ctx", {})
    known = {
        "bool_type": "true or false",
        "dict_type": f"a table, [{key}]",
        "model_type": f"a table, [{key}]",
        "tuple_type": "a list",
        "int_type": "an integer",
        "int_parsing": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a finite number",
        "string_type": "a string",
        "literal_error": f"one of {context.get('expected', '')}",
        "greater_than": f"more than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than": f"less than {context.get('lt')}",
        "less_than_equal": f"at most {context.get('le')}",
        "string_pattern_mismatch": f"text of the form {context.get('pattern')}",
    }
    return known.get(error["type"]) or error["msg"].removeprefix("Input should be ")


def _keys(table: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys of the table at a location of pydantic's, as a file has them."""
    for part in location:
        inner = next((_table_in(f.annotation) for n, f in table.model_fields.items() if part in (n, f.alias)), None)
        table = inner or table  # the position in a list leads nowhere
    return [field.alias or name for name, field in table.model_fields.items()]


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `tuple[Arm, ...]` or `EngineSpec | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _table_in(each))), None)
