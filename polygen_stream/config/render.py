"""Render a run config as TOML with the meaning of every key beside its value.

`configs/micro.toml` is `render_defaults()`; a test compares the two.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import tomli_w

from polygen_stream.config.keys import Key, all_keys, sections
from polygen_stream.config.schema import RunConfig

WIDTH = 120
AT_RESUME = {
    "fixed": "stays, for it decides what is trained",
    "onward": 'may change, and counts for the steps to come; stays where ring.mode is not "throughput"',
    "free": "may change",
}
COMMENT_COLUMN = 32

DEFAULTS_HEADER = """\
The micro preset: four small diffusion models render while a small CLIP trains, on two CPU cores. Rendered from the \
schema by `polygen-stream config --defaults`: every key with its default value. Any key can be overridden on the \
command line, for example
    polygen-stream run --train.steps 200 --generators.recipes micro/sd15,micro/sana"""


def render_defaults() -> str:
    """Return the text of `configs/micro.toml`."""
    return render_config(RunConfig(), DEFAULTS_HEADER)


def render_config(config: RunConfig, header: str = "", names: Iterable[str] = ()) -> str:
    """Return a config as TOML that `load_config` accepts, with every key's meaning.

    Args:
        config: The values. A value that differs from its default is followed by the default.
        header: Comment at the top; "" = none.
        names: Sections to render; none = all of the config.

    Returns:
        Lines of at most 120 characters, unless a value alone is longer.
    """
    wanted = set(names)
    parts = [_comment(header)] if header else []
    for section, heading in ("", ""), *sections().items():
        if wanted and section not in wanted:
            continue
        keys = [key for key in all_keys().values() if key.section == section]
        lines = [line for key in keys for line in _key_lines(key, config)]
        if section:
            lines = [_comment(heading), f"[{section}]", *lines]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def render_key(key: Key, config: RunConfig) -> str:
    """Return what there is to know of one key: its value, meaning, type, bounds and default."""
    bounds = f", {key.bounds}" if key.bounds else ""
    return "\n".join(
        (
            f"{key.name} = {toml_value(key.of(config))}",
            textwrap.indent("\n".join(_wrap(key.meaning, WIDTH - 2)), "  "),
            f"  type: {key.type}{bounds}",
            f"  default: {toml_value(key.default)}",
            f"  when a run is resumed: {AT_RESUME[key.at_resume]}",
        )
    )


def toml_value(value: Any) -> str:
    """Return a value as TOML on one line, e.g. ``["a", "b"]`` or ``{ a = 1 }``."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml_key(name)} = {toml_value(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, float):
        return re.sub(r"e([+-])0", r"e\1", repr(value))  # 1e-08 is TOML too, but 1e-8 is what people write
    return tomli_w.dumps({"v": value}).removeprefix("v = ").rstrip("\n")


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def _key_lines(key: Key, config: RunConfig) -> Iterator[str]:
    value = key.of(config)
    line = f"{key.leaf} = {toml_value(value)}"
    comment = key.meaning
    if not all(f'"{choice}"' in comment for choice in key.choices):
        comment = f"{comment} {key.type.capitalize()}."
    if value != key.default:
        comment = f"[default: {toml_value(key.default)}] {comment}"
    if len(line) > COMMENT_COLUMN - 2:
        yield _comment(comment)
        yield line
        return
    first, *others = _wrap(comment, WIDTH - COMMENT_COLUMN - 2)
    yield f"{line:{COMMENT_COLUMN}}# {first}"
    yield from (f"{'':{COMMENT_COLUMN}}# {other}" for other in others)


def _comment(text: str) -> str:
    lines = []
    for paragraph in text.splitlines():
        indent = " " * (len(paragraph) - len(paragraph.lstrip()))
        lines += [indent + line for line in _wrap(paragraph.strip(), WIDTH - 2 - len(indent))]
    return "\n".join(f"# {line}" for line in lines)


def _wrap(text: str, width: int) -> list[str]:
    """Wrap text, keeping ``0 = off`` and the like on one line."""
    held = text.replace(" = ", "\u00a0=\u00a0")
    return [line.replace("\u00a0", " ") for line in textwrap.wrap(held, width, break_on_hyphens=False)]
