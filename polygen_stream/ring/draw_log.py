"""The draw log: which groups every step of a run was trained on, so that it can be replayed.

One JSON object per line and step, in the order of steps:

    {"step": 7, "plain": [12, 3], "pair": [8], "generations": [1, 1, 2]}

`plain`, `negative` and `pair` are task ids in the order of the batch: of captions, of hard negatives drawn without
their caption, of both. `generations` are the generation numbers of their group rows in the same order, which tell a
group from one of the same task that was rendered again. `turns` are two numbers of each group, by which the images of
its caption and of its negative were chosen (views.py). `negative` and `turns` are left out where they say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import read_jsonl_lines
from polygen_stream.ring.records import DrawRecord, Kind


class DrawLog:
    """Appends draws to a log; each is visible to readers, and survives the death of this process, at once.

    Args:
        file: created if it does not exist.
        first_step: the step the run (re)starts at. Records from it on are removed, because the run will write them
            again, and so is a last line that a killed process left half-written.

    Raises:
        UserError: the file is no draw log.
    """

    def __init__(self, file: Path, first_step: int = 0) -> None:
        keep = 0
        for record, end in _records(file):
            if record.step >= first_step:
                break
            keep = end
        self._stream = file.open("a", buffering=1, encoding="utf-8")  # 1 = line-buffered
        self._stream.truncate(keep)

    def write(self, record: DrawRecord) -> None:
        """Append the record of a step."""
        tasks = {
            kind: [task for task, of in zip(record.task_ids, record.kinds, strict=True) if of is kind] for kind in Kind
        }
        line = {
            "step": record.step,
            "plain": tasks[Kind.PLAIN],
            **({"negative": tasks[Kind.NEGATIVE]} if tasks[Kind.NEGATIVE] else {}),
            "pair": tasks[Kind.PAIR],
            "generations": record.generations,
            **({"turns": record.turns} if record.turns else {}),
        }
        self._stream.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_draw_log(file: Path) -> Iterator[DrawRecord]:
    """Return the records of a draw log, without a last line still being written. A missing file has none.

    Raises:
        UserError: the file is no draw log.
    """
    return (record for record, _ in _records(file))


def _records(file: Path) -> Iterator[tuple[DrawRecord, int]]:
    """Yield each record and the offset in bytes of the end of its line."""
    for number, end, line in read_jsonl_lines(file):
        try:
            if line is None:
                raise ValueError("damaged, or not a JSON object")
            yield _record(line), end
        except (ValueError, KeyError, TypeError) as problem:
            raise UserError(
                f"{file} line {number} is no record of a draw ({problem!r}); move the file away to start a new log"
            ) from problem


def _record(line: dict[str, Any]) -> DrawRecord:
    plain, negative, pair = line["plain"], line.get("negative", []), line["pair"]
    tasks, generations, turns = (*plain, *negative, *pair), line["generations"], line.get("turns", [])
    for number in (line["step"], *tasks, *generations, *(turn for both in turns for turn in both)):
        if type(number) is not int or not 0 <= number < 2**63:
            raise ValueError(f"{number!r} is no number of a step, task, generation or turn")
    if len(generations) != len(tasks):
        raise ValueError(f"{len(generations)} generations for {len(tasks)} tasks")
    if turns and [len(both) for both in turns] != [2] * len(tasks):
        raise ValueError(f"{len(turns)} pairs of turns for {len(tasks)} tasks")
    return DrawRecord(
        step=line["step"],
        task_ids=tasks,
        kinds=(Kind.PLAIN,) * len(plain) + (Kind.NEGATIVE,) * len(negative) + (Kind.PAIR,) * len(pair),
        generations=tuple(generations),
        turns=tuple((positive, negative) for positive, negative in turns),
    )
