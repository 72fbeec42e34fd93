"""Load a run config: a TOML file checked against the schema, plus dotted overrides from the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_origin

import tomli_w
from pydantic import ValidationError

from polygen_stream.assets.model_configs import absolute_model
from polygen_stream.assets.resources import absolute_recipe, config_path, is_recipe_file, recipe_name
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically
from polygen_stream.config.checks import check_possible
from polygen_stream.config.keys import all_keys, config_keys
from polygen_stream.config.renamed import renamed
from polygen_stream.config.schema import RunConfig


def load_config(path: str | Path | None = None, overrides: Mapping[str, str] | Sequence[str] = ()) -> RunConfig:
    """Load, override and check a run config.

    Paths of recipes and of a model config are made absolute, so that the result means the same in any directory:
    relative paths in a TOML file are relative to that file's folder, those of overrides to the current directory.

    Args:
        path: TOML file or preset name; None is the micro preset.
        overrides: {"train.steps": "200"}, or command-line words ("--train.steps", "200" or
            "--train.steps=200"). Values are TOML; quotes of a string and brackets of a list may be left out.

    Returns:
        The frozen config.

    Raises:
        UserError: The file cannot be read, or a key, a value or a combination is refused. The message is one line
            that names the file or option, the key and the remedy.
    """
    file = config_path(path)
    values = read_toml(file)
    _resolve_paths(values, file.parent)
    origins: dict[str, str] = {}
    pairs = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    for dotted, text in pairs.items():
        _set_dotted(values, dotted, text)
        origins[dotted] = f"--{dotted}"
    _resolve_paths(values, Path())
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as problem:
        raise UserError(_explain(problem, str(file), origins)) from None
    try:
        check_possible(config)
    except UserError as problem:
        raise UserError(f"{file}: {problem}") from None
    return config


def dump_config(config: RunConfig, path: Path) -> None:
    """Write the resolved config as TOML; `load_config` of that file gives an equal config."""
    write_atomically(path, tomli_w.dumps(config.model_dump(mode="json")))


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
    known = config_keys()
    pairs: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        dotted = option.removeprefix("--")
        if dotted == option:
            raise UserError(f"unexpected argument {word!r}: overrides read --section.key VALUE")
        if dotted not in known:
            raise UserError(_unknown_option(dotted, other_options))
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{option} has no value: write {option} VALUE")
            value = rest.pop(0)
        pairs[dotted] = value
    return pairs


def split_config_name(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split CONFIG, the first word that is neither an option nor an option's value, from the other words."""
    after_option = False
    for index, word in enumerate(words):
        if not word.startswith("-") and not after_option:
            return word, [*words[:index], *words[index + 1 :]]
        after_option = word.startswith("--") and "=" not in word
    return None, list(words)


def _unknown_option(dotted: str, others: Sequence[str] = ()) -> str:
    if new := renamed(dotted):
        return f"option --{dotted} has been renamed: write --{new}"
    return f"unknown option --{dotted}: {_nearest(dotted, others, prefix='--')}"


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


def read_toml(file: Path) -> dict[str, Any]:
    """Read the tables of a TOML file.

    Raises:
        UserError: The file cannot be read, is not UTF-8, or is not valid TOML.
    """
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise UserError(f"{file} is not valid TOML: {problem}") from None
    except UnicodeDecodeError as problem:
        raise UserError(f"{file} is not UTF-8 text (byte {problem.start}): save it as UTF-8") from None
    except OSError as problem:
        raise UserError(f"cannot read {file}: {problem.strerror or problem}") from None


def _set_dotted(values: dict[str, Any], dotted: str, text: str) -> None:
    key = all_keys().get(dotted)
    if key is None:
        raise UserError(_unknown_option(dotted))
    section, _, leaf = dotted.rpartition(".")
    table = values.setdefault(section, {}) if section else values
    if not isinstance(table, dict):
        return  # the file has a plain value where the section belongs: validation refuses it
    table[leaf] = _parse_value(text, key.annotation)


def _resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Make relative paths of recipes and of a model config absolute, in `folder`; values of other types stay."""
    train, generators, launch = values.get("train"), values.get("generators"), values.get("launch")
    if isinstance(train, dict) and isinstance(train.get("model"), str):
        train["model"] = absolute_model(train["model"], folder)
    recipes = generators.get("recipes") if isinstance(generators, dict) else None
    if isinstance(recipes, list):
        generators["recipes"] = [absolute_recipe(each, folder) if isinstance(each, str) else each for each in recipes]
    # What else refers to a generator does so by its name; a path given there is that of its recipe.
    remote = generators.get("remote_recipes") if isinstance(generators, dict) else None
    if isinstance(remote, list):
        generators["remote_recipes"] = [_generator_name(each) for each in remote]
    renderers = launch.get("renderers") if isinstance(launch, dict) else None
    if isinstance(renderers, dict):
        launch["renderers"] = {_generator_name(name): devices for name, devices in renderers.items()}


def _generator_name(value: Any) -> Any:
    return recipe_name(value) if isinstance(value, str) and is_recipe_file(value) else value


def _parse_value(text: str, annotation: Any) -> Any:
    if annotation is str or (get_origin(annotation) is Literal):
        return text
    if get_origin(annotation) is tuple and not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _explain(problem: ValidationError, file: str, origins: Mapping[str, str]) -> str:
    first = problem.errors()[0]
    # Positions inside a list are part of pydantic's location; the key is what a user can look up.
    dotted = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    where = f"{origins[dotted]}" if dotted in origins else f"{file}: {dotted}"
    if first["type"] == "extra_forbidden":
        if new := renamed(dotted):
            return f"{file}: key {dotted} has been renamed: write {new}"
        return f"{file}: unknown key {dotted}: {_nearest(dotted)}"
    context = first.get("ctx", {})
    expected = {
        "bool_type": "true or false",
        "dict_type": f"a table, [{dotted}]",
        "value_error": str(context.get("error")),
        "int_type": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "finite_number": "a finite number",
        "string_type": "a string",
        "tuple_type": "a list of strings",
        "model_type": f"a table, [{dotted}]",
        "literal_error": f"one of {context.get('expected', '')}",
        "greater_than": f"more than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than": f"less than {context.get('lt')}",
        "less_than_equal": f"at most {context.get('le')}",
        "string_pattern_mismatch": "letters, digits, '.', '_' and '-', starting with a letter or digit",
    }.get(first["type"], first["msg"])
    return f"{where} = {first['input']!r}, expected {expected}"
