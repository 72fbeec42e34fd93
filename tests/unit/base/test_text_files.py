"""Text files that a user wrote are read in the encodings that editors and spreadsheets save, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polygen_stream.base.errors import UserError
from polygen_stream.base.text_files import read_text

TEXT = "café\nzwei\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_it_is_the_same_text_in_every_encoding_and_with_every_line_ending(tmp_path, encoding, ending):
    file = tmp_path / "list.txt"
    file.write_bytes(TEXT.replace("\n", ending).encode(encoding))
    assert read_text(file, "list") == TEXT


def test_utf16_may_have_either_order(tmp_path):
    file = tmp_path / "list.txt"
    file.write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert read_text(file, "list") == TEXT


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("one\nein café\n".encode("latin-1"), "is not UTF-8: line 2, byte 8 is 0xe9"),
        (b"\xef\xbb\xbfcaf\xe9", "is not UTF-8: line 1, byte 4 is 0xe9"),
        (b"\r\n\r\n\xff", "is not UTF-8: line 3, byte 1 is 0xff"),
        ("ab\n".encode("utf-16-le"), "is not UTF-8: line 1, byte 2 is a NUL"),
        ("ab\n".encode("utf-16")[:-1], "is not UTF-16, as its byte order mark says: line 1, byte 5 is 0x0a"),
        ("ab\n".encode("utf-32"), "is not UTF-8: line 1, byte 1 is 0xff"),
    ],
)
def test_any_other_encoding_is_refused_with_the_place(tmp_path, content, found):
    file = tmp_path / "list.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=found) as problem:
        read_text(file, "list of things")
    assert str(problem.value).startswith(f"the list of things {file} ")
    assert str(problem.value).endswith("save it in the encoding UTF-8")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no list .*missing\.txt"):
        read_text(tmp_path / "missing.txt", "list")
    with pytest.raises(UserError, match=r"cannot read the list .*: Is a directory"):
        read_text(tmp_path, "list")
    with pytest.raises(UserError, match="no file can be called that"):
        read_text(Path("a\0b"), "list")


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode("utf-16", "surrogatepass")))
def test_any_bytes_are_a_text_or_a_user_error(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "list.txt"
    file.write_bytes(content)
    try:
        text = read_text(file, "list")
    except UserError as problem:
        assert "\n" not in str(problem)
    else:
        assert "\r" not in text and not text.startswith("\ufeff")
