"""A run folder of another user: it can be read and not written, as the kernel sees it, also where tests run as root.

Root may write everything by a capability, which a process can do without. Its Python need not be readable for others
then, as it would have to be for a process with another user id.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

OTHER = 65534  # user and group "nobody"
PR_CAPBSET_DROP = 24
OVERRIDES = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
LIBC = ctypes.CDLL(None, use_errno=True)


def _without_overrides() -> None:
    for capability in OVERRIDES:
        if LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def heeding_permissions() -> dict[str, Any]:
    """Arguments of Popen with which a process, and what it starts, may do no more than permissions say."""
    return {} if os.geteuid() else {"preexec_fn": _without_overrides}


def give_away(path: Path, mode: int = 0o755) -> None:
    """Make a file, or a folder with all in it, another user's. mode: of a folder; files have no x."""
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        if os.geteuid():  # another user's cannot be made: one's own that is not writable is the same to a reader
            each.chmod((mode if each.is_dir() else mode & 0o666) & 0o555)
        else:
            os.chown(each, OTHER, OTHER)
            each.chmod(mode if each.is_dir() else mode & 0o666)


if __name__ == "__main__":  # python another_user.py COMMAND...
    if not os.geteuid():
        _without_overrides()
    os.execvp(sys.argv[1], sys.argv[1:])
