"""A process that wants a device which the test's own process has, or the other way round."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

OTHER = """
import sys
from pathlib import Path
from polygen_stream.roles.device_lock import DeviceLock
device_lock = DeviceLock(Path(sys.argv[1]), "cuda:0", 5.0)
for line in sys.stdin:
    if line.strip() == "give": device_lock.release()
    print(device_lock.try_acquire() if line.strip() == "ask" else device_lock.contested(), flush=True)
"""


class Other:
    """Another process with its place in the queue of cuda:0: other("ask") says whether it has the device now."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def __call__(self, word: str) -> bool:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() == "True"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
