"""A registry: names of the package's own parts of a kind, and the way to a user's own one."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import ModuleType
from typing import Any

from polygen_stream.base.errors import UserError

_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_own(value: str) -> bool:
    """Whether a value is a part of the user's own, "module:attribute", and not a name."""
    return ":" in value


@dataclass(frozen=True, eq=False)
class Registry:
    """The parts of one kind.

    Attributes:
        key: Config key that chooses one.
        kind: What a part is, for messages.
        parts: "module:attribute" of every named part.
        positional: Names of the positional arguments that a part is called with.
        keywords: Names of its keyword arguments.
        contract: Where the docstring is that says what a part has to do.
        others: Further values of the key, which stand for no part.
        offers: Attributes of what a call returns, of parts that are called without arguments.
    """

    key: str
    kind: str
    parts: Mapping[str, str]
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    contract: str
    others: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every value of the key that is a name."""
        return (*self.others, *self.parts)

    @property
    def call(self) -> str:
        """The arguments that a part is called with, as in a signature."""
        keywords = ("*", *self.keywords) if self.keywords else ()
        return ", ".join((*self.positional, *keywords))

    def check(self, value: str) -> str:
        """Return a value of the key that is a name or has the form of a part of the user's own.

        Raises:
            ValueError: It is neither; the message lists what is allowed.
        """
        if value in self.names or _OWN.fullmatch(value):
            return value
        near = get_close_matches(value, self.names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"one of {', '.join(map(repr, self.names))}, or 'module:attribute'{hint}")

    def load(self, value: str) -> Any:
        """Import the part that a value of the key stands for.

        A part of the user's own is looked for in PYTHONPATH, among the installed packages, and last in the current
        directory.

        Raises:
            UserError: No such name; or of a part of the user's own, the module cannot be imported, it has no such
                attribute, or that one cannot be called as a part of this kind is.
        """
        if is_own(value):
            return _load_own(self, value)
        if value not in self.parts:
            raise UserError(
                f"no {self.kind} {value!r}: choose one of {', '.join(self.parts)}, or give module:attribute"
            )
        module, _, attribute = self.parts[value].partition(":")
        return getattr(importlib.import_module(module), attribute)


@cache
def _load_own(registry: Registry, value: str) -> Any:
    where = f"{registry.key} = {value!r}"
    name, _, path = value.partition(":")
    module = _import(where, name)
    part: Any = module
    for attribute in path.split("."):
        if not hasattr(part, attribute):
            near = get_close_matches(attribute, [each for each in dir(part) if each[0] != "_"], n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{where}: {getattr(module, '__file__', name)} has no {attribute!r}{hint}")
        part = getattr(part, attribute)
    _check_call(registry, where, part)
    if registry.offers:
        _check_offers(registry, where, part)
    return part


def _import(where: str, name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name is None or not (name == problem.name or name.startswith(f"{problem.name}.")):
            raise UserError(f"{where}: importing it fails: {problem}") from None
        raise UserError(
            f"{where}: there is no module {problem.name!r} in PYTHONPATH, among the installed packages of "
            f"{sys.executable} or in {here}"
        ) from None
    except Exception as problem:  # whatever the user's module does when it is imported
        raise UserError(f"{where}: importing it fails: {type(problem).__name__}: {problem}") from None


def _check_offers(registry: Registry, where: str, part: Callable[[], Any]) -> None:
    try:
        made = part()
    except Exception as problem:  # whatever the user's code does when it is called
        raise UserError(f"{where}: calling it fails: {type(problem).__name__}: {problem}") from None
    if missing := [name for name in registry.offers if not hasattr(made, name)]:
        raise UserError(f"{where} returns {type(made).__name__} without {', '.join(missing)}: see {registry.contract}")


def _check_call(registry: Registry, where: str, part: Any) -> None:
    """Refuse what cannot be called with the arguments of its kind, or would lack something once it was."""
    wanted = f"it is called with ({registry.call}), see {registry.contract}"
    if not callable(part):
        raise UserError(f"{where} is {type(part).__name__}, not callable: {wanted}")
    missing = sorted(getattr(part, "__abstractmethods__", ()))
    if missing:
        raise UserError(f"{where} does not define {', '.join(missing)}: see {registry.contract}")
    try:
        signature = inspect.signature(part)
    except (TypeError, ValueError):  # of a class or function in C, which does not tell
        return
    try:
        signature.bind(*registry.positional, **dict.fromkeys(registry.keywords))
    except TypeError as problem:
        raise UserError(f"{where} takes {signature}, but {wanted}: {problem}") from None
