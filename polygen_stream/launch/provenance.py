"""provenance.json: what ran, where and when."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from polygen_stream.base.secrets import redact


def provenance() -> dict:
    """Return code, package versions, machine, command line and time of this process."""
    found = [(dist.metadata["Name"], dist) for dist in importlib.metadata.distributions()]
    packages = {name: dist.version for name, dist in found if name}  # a package that is half installed has none
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "argv": [redact(word) for word in sys.argv],
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git": _git(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _git() -> dict[str, str | bool] | None:
    """Commit of the checkout this package runs from, and whether it was changed; None when installed."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        commit = _run_git(checkout, "rev-parse", "HEAD")
        changed = _run_git(checkout, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):  # git is not installed, or no commit yet
        return None
    return {"commit": commit, "changed": bool(changed)}


def _run_git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
