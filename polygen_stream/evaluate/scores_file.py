"""Files of scores: checked before anything is computed, written whole, and merged by one process at a time.

{"model": {...}, "scores": {TASK: {SCORE: {"score", "low", "high", "n", "chance"}}}, "read": {DATASET: [line, ...]},
"correct": {DATASET: {PICTURE: whether it was right}}}
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.base.records import is_number

NUMBERS = ("score", "low", "high", "n")


def read_scores(file: Path) -> dict[str, Any]:
    """Return the content of a file of scores, with all of its keys; those of an absent file are empty.

    Raises:
        UserError: It cannot be read, or is no file of scores.
    """
    found = {"scores": {}, "read": {}, "correct": {}, **read_json(file)}
    if not _are_scores(found["scores"]) or not all(isinstance(found[key], dict) for key in ("read", "correct")):
        raise UserError(
            f"{file} is damaged (it holds no scores of `evaluate`): restore it, or delete it to go on without it"
        )
    return found


def write_scores(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file of scores; a pipe or a device is written into, not replaced.

    Raises:
        UserError: It cannot be written.
    """
    try:
        if file.exists() and not file.is_file():
            with file.open("w", encoding="utf-8") as stream:
                stream.write(json.dumps(content, indent=2, allow_nan=False) + "\n")
        else:
            write_json(file.resolve(), content, allow_nan=False, durable=True)
    except OSError as problem:
        raise UserError(f"cannot write {file}: {problem.strerror}") from None


def add_scores(file: Path, content: Mapping[str, Any]) -> None:
    """Add to the scores in a file, whose folder may be missing; another process that adds to it waits.

    Raises:
        UserError: It cannot be written, or what is there is no file of scores.
    """
    try:
        file.parent.mkdir(exist_ok=True)
    except OSError as problem:
        raise UserError(f"cannot write {file}: {problem.strerror} ({file.parent})") from None
    with _one_at_a_time(file.parent):
        earlier = read_scores(file)
        merged = {key: {**earlier[key], **content[key]} for key in ("scores", "read", "correct")}
        write_scores(file, {**content, **merged})


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _are_scores(found: Any) -> bool:
    if not isinstance(found, dict) or not all(isinstance(scores, dict) for scores in found.values()):
        return False
    return all(_is_score(score) for scores in found.values() for score in scores.values())


def _is_score(found: Any) -> bool:
    if not isinstance(found, dict) or not all(is_number(found.get(key)) for key in NUMBERS):
        return False
    return found.get("chance") is None or is_number(found["chance"])
