"""Class prompts as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.prompts import parse_templates, read_templates


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_blank_lines_and_spaces_make_no_difference(tmp_path, encoding):
    file = tmp_path / "templates.txt"
    file.write_bytes("a photo of a {c}.\r\n\r\n  un café {c} \r\n".encode(encoding))
    assert read_templates(file) == ["a photo of a {c}.", "un café {c}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a photo of a {}.", r"line 1: \{c\} stands for the class, not \{\}"),
        ("\na photo of a {classname}.", r"line 2: \{c\} stands for the class, not \{classname\}"),
        ("a {c} {", r"line 1: a brace without its other half"),
        ("a {c!r}", r"not \{c!r\}"),
        ("a {c:>99999999999}", r"not \{c:>99999999999\}"),
        ("a {c.__class__}", r"not \{c.__class__\}"),
        ("a photo.", r"line 1: 'a photo\.' is the same for every class"),
        ("{{c}}", r"is the same for every class"),
        ("\n \n", r"has no prompt"),
        ("", r"has no prompt"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused_with_its_line(text, message):
    with pytest.raises(UserError, match=message):
        parse_templates(text, "templates.txt")


def test_latin1_is_named(tmp_path):
    file = tmp_path / "templates.txt"
    file.write_bytes("un café {c}".encode("latin-1"))
    with pytest.raises(UserError, match=r"line 1, byte 7 is 0xe9; save it in the encoding UTF-8"):
        read_templates(file)


@settings(deadline=None, max_examples=200)
@given(st.text("ab{}c!:.0[]\n ", max_size=30))
def test_any_text_is_prompts_that_differ_by_class_or_a_user_error(text):
    try:
        templates = parse_templates(text, "templates.txt")
    except UserError as problem:
        assert "\n" not in str(problem)
        return
    assert all(template.format(c="cat") != template.format(c="dog") for template in templates)
