"""The journal: entries are read as they were written, incomplete lines are removed, other files are refused."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import CaptionJournal, JournalEntry, read_journal, read_provenances
from polygen_stream.schedule.ledger import Ledger

LEDGER = Ledger(3, ("a cat", "a dog"), ("colour", "size"), 4, 2)
ENTRIES = [
    JournalEntry(LEDGER.task(0), False, Caption("a cat on a mat")),
    JournalEntry(
        LEDGER.task(1), True, Caption("ein großer Hund", "ein kleiner Hund", "size", ("caption: no caption",))
    ),
    JournalEntry(LEDGER.task(2), True, Dropped(("negative: other axis",) * 3)),
]


def write(file, entries):
    journal = CaptionJournal(file)
    journal.write(entries)
    journal.close()


def test_entries_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "journal.jsonl"
    assert list(read_journal(file)) == []
    write(file, ENTRIES[:2])
    write(file, ENTRIES[2:])
    assert list(read_journal(file)) == ENTRIES


def test_an_incomplete_last_line_is_removed(tmp_path):
    file = tmp_path / "journal.jsonl"
    write(file, ENTRIES)
    whole = file.read_bytes()
    second = whole.index(b"\n") + 1
    for size in (second + 5, len(whole) - 1):
        file.write_bytes(whole[:size])
        kept = 1 if size == second + 5 else 2
        assert list(read_journal(file)) == ENTRIES[:kept]
        write(file, ENTRIES[kept:])
        assert file.read_bytes() == whole


@pytest.mark.parametrize("text", ["{}\n", "[1]\n", "no JSON\n", '{"task": 1, "kind": "plain", "caption": {}}\n'])
def test_a_file_that_is_not_a_journal_is_refused_and_left_unchanged(tmp_path, text):
    file = tmp_path / "journal.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match="line 1 is not an entry of a journal"):
        CaptionJournal(file)
    assert file.read_text() == text


@pytest.mark.parametrize("damage", [b"\x00\xff\x80", b'{"task": {"task_'], ids=["garbage", "cut"])
def test_a_damaged_line_in_the_middle_is_refused(tmp_path, damage):
    file = tmp_path / "journal.jsonl"
    write(file, ENTRIES)
    first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + damage + b"\n" + b"".join(rest))
    with pytest.raises(UserError, match=rf"^{file} line 2 is not an entry of a journal \(damaged"):
        list(read_journal(file))


def test_a_repeated_task_is_refused(tmp_path):
    file = tmp_path / "journal.jsonl"
    write(file, [ENTRIES[0], ENTRIES[1], ENTRIES[1]])
    with pytest.raises(UserError, match="line 3 has task 1 after task 1"):
        list(read_journal(file))


MISTRAL = {"bank": "english", "concepts": {"sha256": "00"}, "writer": {"model": "mistral", "sha256": "01"}}


def described(file, provenance, entries):
    journal = CaptionJournal(file)
    journal.record_provenance(provenance)
    journal.write(entries)
    journal.close()


def test_a_provenance_is_recorded_before_its_entries_and_only_when_it_changes(tmp_path):
    file = tmp_path / "journal.jsonl"
    other = {**MISTRAL, "writer": {"model": "mistral", "sha256": "02"}}
    described(file, MISTRAL, ENTRIES[:1])
    described(file, dict(MISTRAL), ENTRIES[1:2])
    described(file, other, ENTRIES[2:])
    assert list(read_journal(file)) == ENTRIES
    assert list(read_provenances(file)) == [MISTRAL, other]
    kinds = ["provenance" in line for line in file.read_text(encoding="utf-8").splitlines()]
    assert kinds == [True, False, False, True, False]


def test_other_concepts_than_those_of_the_entries_are_refused(tmp_path):
    file = tmp_path / "journal.jsonl"
    described(file, MISTRAL, ENTRIES)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"was begun with the concepts .*00.* now .*99.*captions\.concepts"):
        described(file, {**MISTRAL, "concepts": {"sha256": "99"}}, [])
    assert file.read_bytes() == before
