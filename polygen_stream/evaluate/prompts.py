"""Class prompts as people write them: one a line, with {c} where the class stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Formatter

from polygen_stream.base.errors import UserError
from polygen_stream.base.text_files import read_text

TEMPLATES = ("a photo of a {c}.",)  # where the folder has none
TEMPLATES_FILE = "zeroshot_classification_templates.txt"  # as clip_benchmark's WebDatasets have it, one a line


def read_templates(file: Path) -> list[str]:
    """Return the prompts of a file; blank lines are none.

    Raises:
        UserError: It cannot be read, has no prompt, or one without {c} or with another placeholder.
    """
    return parse_templates(read_text(file, "list of prompts"), str(file))


def parse_templates(text: str, named: str) -> list[str]:
    """Return the prompts of a text; `named` is what to call it in messages. See `read_templates`."""
    lines = [line.strip() for line in text.split("\n")]
    found = [(number, line) for number, line in enumerate(lines, start=1) if line]
    if not found:
        raise UserError(f"{named} has no prompt: write some, such as {TEMPLATES[0]!r}, or remove the file")
    for number, line in found:
        _check(line, f"{named}, line {number}")
    return [line for _, line in found]


def check_templates(templates: Sequence[str], named: str) -> None:
    """Check prompts that are not from a file of the user.

    Raises:
        UserError: There is none, or one without {c} or with another placeholder.
    """
    parse_templates("\n".join(" ".join(template.split()) for template in templates), named)


def _check(template: str, where: str) -> None:
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise UserError(f"{where}: a brace without its other half in {template!r}; write {{{{ for a brace") from None
    fields = [
        f"{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
        for _, name, form, conversion in parts
        if name is not None
    ]
    if wrong := [name for name in fields if name != "c"]:
        raise UserError(f"{where}: {{c}} stands for the class, not {{{wrong[0]}}}, in {template!r}")
    if not fields:
        raise UserError(f"{where}: {template!r} is the same for every class; write {{c}} where the class stands")
