"""`polygen-stream` as a command, with every role on one GPU."""

from __future__ import annotations

import subprocess
import sys

ON_THE_GPU = [word for of in ("captions", "generators", "train", "evaluate") for word in (f"--{of}.device", "cuda:0")]


def polygen_stream(*words: str) -> str:
    """What the command says, once it has ended well."""
    done = subprocess.run([sys.executable, "-m", "polygen_stream", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
