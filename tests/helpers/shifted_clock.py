"""A time of day that is set while processes run: theirs, not the machine's. See shifted_clock.c."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class ShiftedClock:
    """Sets the clock of the processes that have `environment`, and of their children, also while they run.

    Args:
        folder: For the library and the shift.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise FileNotFoundError("no C compiler")
        library, self._file = folder / "shifted_clock.so", folder / "shift"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        self._file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(self._file)}

    def set(self, seconds: int) -> None:
        """Set the clock to that many seconds after the true time; negative: before it."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    def read(self) -> float:
        """Return what a process that has the clock takes for the time now."""
        words = [sys.executable, "-c", "import time; print(time.time())"]
        return float(subprocess.check_output(words, env={**os.environ, **self.environment}))
