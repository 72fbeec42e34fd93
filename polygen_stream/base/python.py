"""How the package starts Python: a file in the current folder never takes the place of a module.

`python -m` and `python -c` put the current folder in front of the standard library, so that a user's own random.py or
queue.py would be imported by every process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SAFE_PATH = {"PYTHONSAFEPATH": "1"}  # the same for what a process starts in its turn, e.g. vLLM its engine


def python_command(*words: str, python: str = sys.executable) -> list[str]:
    """Return the command line that starts Python with `words`, e.g. "-m", "module"."""
    return [python, "-P", *words]


def make_path_safe() -> None:
    """Do the same for this process, started as `python -m`, and for all that it starts.

    A package that was found in the current folder, and is not installed, is found by child processes all the same.
    """
    os.environ.update(SAFE_PATH)
    if sys.flags.safe_path:
        return
    here, package = sys.path.pop(0), str(Path(__file__).parents[2])
    if here == package and package not in sys.path:
        sys.path.append(package)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{before}{os.pathsep}{package}" if before else package
