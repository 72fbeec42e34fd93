"""What a command said, and that it was one line."""

from __future__ import annotations

import subprocess

Done = subprocess.CompletedProcess[str]


def one_line_error(done: Done) -> str:
    """The only line on stderr of a command that refused its input."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]
