"""The run folder: what a run leaves, and the name of every file and folder in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import UserError


@dataclass(frozen=True)
class RunFolder:
    """The paths inside a run folder. None of them has to exist.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run folder at `path`.

        Raises:
            UserError: `path` is no run folder.
        """
        run = cls(path)
        if not run.config.is_file():
            raise UserError(f"{path} is no run folder (it has no config.toml): name the folder that `run` printed")
        return run

    def __str__(self) -> str:
        return str(self.path)

    # ---- what decided the run

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.toml"

    @property
    def provenance(self) -> Path:
        """Code, package versions, machine and command line, of the start and of each resume."""
        return self.path / "provenance.json"

    @property
    def replay_schedule(self) -> Path:
        """In a replay: the draw log of the run that is replayed."""
        return self.path / "replay.jsonl"

    # ---- what its processes write while it goes on

    @property
    def logs(self) -> Path:
        """Folder with one log per process and attempt: NAME.log, NAME.2.log and so on."""
        return self.path / "logs"

    @property
    def journal(self) -> Path:
        """Every caption task and what became of it, one JSON object per line."""
        return self.path / "journal.jsonl"

    @property
    def draw_log(self) -> Path:
        """The captions that each step was trained on, one JSON object per line."""
        return self.path / "draw_log.jsonl"

    @property
    def metrics(self) -> Path:
        """Loss, rates and waits of each logged step, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder with the same for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def eval_log(self) -> Path:
        """Scores of the evaluated checkpoints, one JSON object per line."""
        return self.path / "eval.jsonl"

    @property
    def events(self) -> Path:
        """Restarts, resumes and what else should not have happened, one JSON object per line."""
        return self.path / "events.jsonl"

    @property
    def traces(self) -> Path:
        """Folder with the spans of each process, if the run is traced: NAME.PID.jsonl."""
        return self.path / "trace"

    @property
    def device_locks(self) -> Path:
        """Folder with the queue of each device that processes share by time slices."""
        return self.path / "device_locks"

    @property
    def ring_file(self) -> Path:
        """Where the images of the ring are, if they are in a file."""
        return self.path / "ring_file.json"

    @property
    def recorder_state(self) -> Path:
        """What the shard recorder has written so far."""
        return self.path / "recorder.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.checkpoints / f"step_{step:06d}"

    # ---- what is there at its end, or made from it later

    @property
    def ring_snapshot(self) -> Path:
        """The ring at the end of the run; checkpoints have one of their own."""
        return self.path / "ring.safetensors"

    @property
    def summary(self) -> Path:
        """How the run ended, and its headline numbers."""
        return self.path / "summary.json"

    @property
    def gallery(self) -> Path:
        """A sample of captions with their images, for the report."""
        return self.path / "gallery.safetensors"

    @property
    def analysis(self) -> Path:
        """What the run's generators are like, measured at its end or by `analyze`."""
        return self.path / "analysis.json"

    @property
    def report(self) -> Path:
        """The report, one page."""
        return self.path / "report.html"

    @property
    def evaluations(self) -> Path:
        """Folder with the scores that `evaluate` gave to checkpoints."""
        return self.path / "evaluations"

    def evaluation(self, step: int) -> Path:
        """Return the file with the scores that `evaluate` gave to the checkpoint of a step."""
        return self.evaluations / f"step_{step:06d}.json"
