"""HTML pages from the templates beside this file: one file each, which needs neither network nor server."""

from __future__ import annotations

from pathlib import Path

import jinja2

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # captions are written by language models
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> str:
    """Return a template filled with values; a value that the template needs and does not get is an error."""
    return _TEMPLATES.get_template(template).render(**values)
