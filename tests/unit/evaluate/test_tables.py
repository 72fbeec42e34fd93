"""Tables of captions as editors and spreadsheets save them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.tables import is_table, read_table
from polygen_stream.evaluate.user_data import caption_table

TEXT = "image\tcaption\n0.png\ta red cat\n1.png\tun café\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_encodings_and_line_endings_make_no_difference(tmp_path, encoding, ending):
    file = tmp_path / "t.tsv"
    file.write_bytes(TEXT.replace("\n", ending).encode(encoding))
    found = read_table(file, ("image", "caption"))
    assert found.rows == [{"image": "0.png", "caption": "a red cat"}, {"image": "1.png", "caption": "un café"}]
    assert found.read == [f"2 rows of {file}"]


def test_quotation_marks_and_blank_lines_of_spreadsheets_are_left_out_and_said(tmp_path):
    file = tmp_path / "t.tsv"
    file.write_text('"image"\tcaption\t\n0.png\t"a ""red"" cat, here"\t\n\t\t\n1.png\t"Stop" says the sign\t\n')
    found = read_table(file, ("image", "caption"))
    assert [row["caption"] for row in found.rows] == ['a "red" cat, here', '"Stop" says the sign']
    assert found.lines == [2, 4]
    assert found.read[1:] == ["left out 1 blank line", "left out the quotation marks around fields of 1 row"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty: its first line names the columns image, caption"),
        (b"\xef\xbb\xbf\n", r"is empty"),
        (TEXT.encode("latin-1"), r"line 3, byte 13 is 0xe9; save it in the encoding UTF-8"),
        (b"image\tcaption\n0.png\ta red\tcat\n", r"line 2 has 3 fields, but the first line names 2 columns"),
        (b'image\tcaption\n0.png\t"a red\tcat"\n', r"line 2 has 3 fields"),
        (b"image\tcaption\n0.png\t \n", r"line 2: one of image, caption is empty"),
        (b"image,caption\n0.png,a cat\n", r"a tab stands between columns, and here it is ','"),
        (b"0.png\ta cat\n", r"names the columns 0\.png, a cat, and image, caption is missing"),
        (b"image\tcaption\tcaption\n0.png\ta\tb\n", r"names the column caption twice"),
        (b"image\tcaption\n", r"has no rows below"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t.tsv", ("image", "caption"))


@pytest.mark.parametrize("name", ["t.TSV", "t.csv", "t.txt", "t"])
def test_a_file_is_a_table_whatever_it_is_called(tmp_path, name):
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / name).write_text(TEXT)
    assert is_table(str(tmp_path / name))
    assert len(caption_table(tmp_path / name, lambda picture: picture).dataset) == 2


def test_a_picture_that_is_missing_is_named_with_its_line_before_any_is_decoded(tmp_path):
    (tmp_path / "t.tsv").write_text(TEXT)
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"t\.tsv, line 3: there is no picture .*1\.png"):
        caption_table(tmp_path / "t.tsv", lambda picture: picture)


@settings(deadline=None, max_examples=150)
@given(
    content=st.binary(max_size=60)
    | st.tuples(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]), st.text('a"\t\n\r é\0', max_size=40)).map(
        lambda each: ("image\tcaption\n" + each[1]).encode(each[0])
    )
)
def test_any_bytes_are_a_table_or_a_user_error(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any.tsv"
    file.write_bytes(content)
    try:
        found = read_table(file, ("image", "caption"))
    except UserError as problem:
        assert "\n" not in str(problem)
    else:
        assert all(row["image"].strip() and row["caption"].strip() for row in found.rows)
        with pytest.raises(UserError, match="there is no picture"):
            found.pictures("image")
