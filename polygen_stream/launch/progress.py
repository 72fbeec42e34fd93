"""How far a run has come: what its ring and its folder say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.eval_log import read_evaluations
from polygen_stream.base.json_files import read_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import last_checkpoint
from polygen_stream.config import RunConfig
from polygen_stream.ring import Ring, RingStats


@dataclass
class RunProgress:
    """How far a run has come.

    Attributes:
        config: Of the run.
        folder: Of the run.
        ring: The run's ring now: a deterministic run gets another one when its trainer is started again.
        ring_closed: There is none any more, or not yet another one.
    """

    config: RunConfig
    folder: RunFolder
    ring: Ring
    ring_closed: bool = False

    def close_ring(self) -> None:
        """Close the ring, if that has not been done."""
        if not self.ring_closed:
            self.ring_closed = True
            self.ring.close()

    def replace_ring(self, ring: Ring) -> None:
        """Go on with another ring in the place of the closed one."""
        self.ring, self.ring_closed = ring, False

    def stats(self) -> RingStats:
        """Return the ring's numbers, as of now.

        Raises:
            LockTimeout: The ring's mutex could not be had.
        """
        return self.ring.stats()

    def steps_done(self) -> int:
        """Return the number of steps that are in a checkpoint."""
        checkpoint = last_checkpoint(self.folder.path)
        return checkpoint[0] if checkpoint else 0

    def evaluations(self) -> int:
        """Return how many evaluations there are, of any checkpoint."""
        return len(self._evaluations())

    def is_evaluated(self) -> bool:
        """Return whether the final checkpoint has been evaluated."""
        return any(line["final"] and line["step"] == self.config.train.steps for line in self._evaluations())

    def recorded_captions(self) -> int:
        """Return how many captions the shard recorder has written."""
        return read_json(self.folder.recorder_state).get("captions", 0)

    def _evaluations(self) -> list[dict[str, Any]]:
        """Return the lines of eval.jsonl; none if it cannot be read, which ends an evaluator and no run."""
        try:
            return [*read_evaluations(self.folder.eval_log)]
        except UserError:
            return []
