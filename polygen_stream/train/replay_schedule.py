"""The replay schedule: the draws of a finished run, which a run in replay mode repeats step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.ring import DrawRecord, DrawSummary, Kind, Ring
from polygen_stream.ring.draw_log import read_draw_log


class ReplaySchedule:
    """The draws of a draw log, to be asked for in the order of steps, from any step on.

    Args:
        file: the draw log.

    Raises:
        UserError: the file is no draw log.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last_step: dict[int, int] = {}  # task id -> the last step that draws it
        for record in read_draw_log(file):
            self._last_step.update(dict.fromkeys(record.task_ids, record.step))
        self._records: Iterator[DrawRecord] = read_draw_log(file)

    def draw(self, step: int, mixes: Sequence[tuple[int, int]]) -> DrawRecord:
        """Return the draw of a step.

        Args:
            step: the training step.
            mixes: numbers of groups with one text and with both that the curriculum may ask for, the usual ones first.

        Raises:
            UserError: the log has no such step, or its mix is not the one asked for.
        """
        record = next((record for record in self._records if record.step == step), None)
        if record is None:
            raise UserError(f"{self._file} has no step {step}: replay a run that was completed")
        pairs = record.kinds.count(Kind.PAIR)
        if (len(record.kinds) - pairs, pairs) not in mixes:
            plain, pair = mixes[0]
            raise UserError(
                f"{self._file}: step {step} drew {len(record.kinds) - pairs} plain + {pairs} pair captions, but this "
                f"config's curriculum asks for {plain} + {pair}: replay with the config of the run"
            )
        return record

    def update_pins(self, ring: Ring, summary: DrawSummary) -> None:
        """Pin those of the groups just drawn that a later step draws again, and unpin the rest."""
        record = summary.record
        for row, generation, task in zip(summary.rows, record.generations, record.task_ids, strict=True):
            if self._last_step[task] > record.step:
                ring.pin(row, generation)
            else:
                ring.unpin(row, generation)
