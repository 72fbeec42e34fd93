"""The keys of a run config, read from the schema: name, type, bounds, choices, default and meaning of each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from polygen_stream.config.schema import RunConfig, Section
from polygen_stream.registry import Registry


@dataclass(frozen=True)
class Key:
    """One key of the config.

    Attributes:
        name: Dotted name, e.g. "train.steps", or "seed" outside of any section.
        annotation: Type of its value.
        default: Value of a config that does not set it.
        meaning: Description in the schema.
        bounds: What numbers have to be, e.g. "at least 1, at most 62"; "" = anything.
        at_resume: What a resumed run may do with it: "fixed", "onward" or "free", see schema.py.
        registry: Of a key that chooses a part, the parts that there are.
    """

    name: str
    annotation: Any
    default: Any
    meaning: str
    bounds: str
    at_resume: Literal["fixed", "onward", "free"]
    registry: Registry | None = None

    @property
    def section(self) -> str:
        """The section's name, "" outside of any."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """The name inside the section."""
        return self.name.rpartition(".")[2]

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that are allowed, of a key with a fixed set of them, or that have names."""
        if self.registry:
            return self.registry.names
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else ()

    @property
    def type(self) -> str:
        """The type as a user writes it in TOML."""
        if self.choices:
            own = " or module:attribute" if self.registry else ""
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices) + own
        plain = {str: "string", int: "integer", float: "number", bool: "true or false"}
        containers = {tuple: "list of strings", dict: "table of lists of strings"}
        return plain.get(self.annotation) or containers[get_origin(self.annotation)]

    def of(self, config: RunConfig) -> Any:
        """Return the value of this key in a config."""
        table = getattr(config, self.section) if self.section else config
        return getattr(table, self.leaf)


@cache
def all_keys() -> dict[str, Key]:
    """Return every key by its dotted name, in the order of the schema."""
    return {key.name: key for key in _read_schema()}


@cache
def sections() -> dict[str, str]:
    """Return every section's name with its heading, in the order of the schema."""
    return {name: inspect.getdoc(table) or "" for name, table in _tables()}


def config_keys() -> list[str]:
    """Return every dotted key of the schema, e.g. "name", "train.steps"."""
    return list(all_keys())


def _tables() -> Iterator[tuple[str, type[Section]]]:
    for name, field in RunConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def _read_schema() -> Iterator[Key]:
    tables = dict(_tables())
    for name, field in RunConfig.model_fields.items():
        if name not in tables:
            yield _key(name, field)
    for name, table in tables.items():
        for leaf, field in table.model_fields.items():
            yield _key(f"{name}.{leaf}", field)


def _key(name: str, field: FieldInfo) -> Key:
    registry = next((each for each in field.metadata if isinstance(each, Registry)), None)
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        raise TypeError(f"{name} is neither FIXED, ONWARD nor FREE in schema.py")
    at_resume: Any = extra["at_resume"]
    return Key(name, field.annotation, field.default, field.description or "", _bounds(field), at_resume, registry)


def _bounds(field: FieldInfo) -> str:
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    return ", ".join(
        f"{words[name]} {getattr(limit, name)}" for limit in field.metadata for name in words if hasattr(limit, name)
    )
