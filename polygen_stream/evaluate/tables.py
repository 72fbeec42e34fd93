"""A user's tables: tab-separated text whose first line names the columns, as editors and spreadsheets save it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.text_files import read_text
from polygen_stream.evaluate.class_folders import counted

ENDINGS = (".tsv", ".csv", ".txt")  # of names that are tables, even where there is no such file


@dataclass(frozen=True)
class Table:
    """Rows by column name.

    Attributes:
        file: Where they are from.
        rows: What is in them; every required column has something.
        lines: Number of each row's line.
        read: What was read and what was left out, for the user.
    """

    file: Path
    rows: list[dict[str, str]]
    lines: list[int]
    read: list[str]

    def pictures(self, column: str) -> list[Path]:
        """Return the picture files that a column names, relative to the table.

        Raises:
            UserError: One of them is not there.
        """
        files = [self.file.parent / row[column] for row in self.rows]
        for number, file in zip(self.lines, files, strict=True):
            if not os.path.isfile(file):  # False for names that no file can have, where Path raises
                raise UserError(f"{self.file}, line {number}: there is no picture {file}")
        return files

    def check_different(self, first: str, second: str) -> None:
        """Refuse a row with the same in two columns: nothing can tell them apart.

        Raises:
            UserError: There is one.
        """
        for number, row in zip(self.lines, self.rows, strict=True):
            if row[first] == row[second]:
                raise UserError(f"{self.file}, line {number}: {first} and {second} are the same, {row[first]!r}")


def is_table(name: str) -> bool:
    """Whether a dataset's name is that of a table: a file, or what would be one."""
    return os.path.isfile(name) or name.lower().endswith(ENDINGS)


def read_table(file: Path, columns: Sequence[str]) -> Table:
    """Read a table whose first line names at least these columns.

    A field in quotation marks, as spreadsheets write it, is what stands between them.

    Raises:
        UserError: No such file, another encoding or header, no row, or a row that has too few or too many fields.
    """
    text = read_text(file, "file")
    if not text.strip():
        raise UserError(f"{file} is empty: its first line names the columns {', '.join(columns)}")
    head, *lines = text.split("\n")
    names = [name.strip() for name in _fields(head)]
    _check_header(file, head, names, columns)
    rows: list[dict[str, str]] = []
    numbers: list[int] = []
    quoted = 0
    for number, line in enumerate(lines, start=2):
        fields = _fields(line)
        if not any(field.strip() for field in fields):
            continue
        if any(field.strip() for field in fields[len(names) :]):
            raise UserError(
                f"{file}, line {number} has {len(fields)} fields, but the first line names {len(names)} columns: a tab"
                " stands between columns and nowhere else"
            )
        row = dict(zip(names, fields, strict=False))
        if not all(row.get(column, "").strip() for column in columns):
            raise UserError(f"{file}, line {number}: one of {', '.join(columns)} is empty")
        rows.append(row)
        numbers.append(number)
        quoted += fields != line.split("\t")
    if not rows:
        raise UserError(f"{file} has no rows below its first line")
    read = [f"{counted(len(rows), 'row')} of {file}"]
    if blank := numbers[-1] - 1 - len(rows):
        read.append(f"left out {counted(blank, 'blank line')}")
    if quoted:
        read.append(f"left out the quotation marks around fields of {counted(quoted, 'row')}")
    return Table(file, rows, numbers, read)


def _check_header(file: Path, head: str, names: Sequence[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in names]
    if missing:
        other = next((mark for mark in ",;" if mark in head and "\t" not in head), None)
        between = f", and here it is {other!r}: save it as text with tabs" if other else ""
        raise UserError(
            f"{file}: the first line names the columns {', '.join(filter(None, names)) or 'nothing'}, and"
            f" {', '.join(missing)} is missing; a tab stands between columns{between}"
        )
    for column in columns:
        if names.count(column) > 1:
            raise UserError(f"{file}: the first line names the column {column} twice")


def _fields(line: str) -> list[str]:
    return [_without_quotes(field) for field in line.split("\t")]


def _without_quotes(field: str) -> str:
    inside = field[1:-1]
    if len(field) < 2 or field[0] != '"' or field[-1] != '"' or '"' in inside.replace('""', ""):
        return field
    return inside.replace('""', '"')
