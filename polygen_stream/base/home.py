"""The user's home folder, which a user id without an entry in /etc/passwd does not have unless HOME says so."""

from __future__ import annotations

import os
from pathlib import Path

from polygen_stream.base.errors import UserError


def has_home() -> bool:
    """Whether there is a home folder: HOME, or the one in /etc/passwd."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def expand_home(path: str | Path) -> Path:
    """Return a path with ~ and ~user at its start replaced.

    Raises:
        UserError: It begins so, and there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = str(path).partition("/")[0].removeprefix("~")
        why = f"there is no user {user} here" if user else why_no_home()
        raise UserError(f"{path}: {why}; write the path without ~") from None


def user_cache(variable: str) -> Path:
    """Return the folder for what can be made again: XDG_CACHE_HOME, else .cache in the home folder.

    Args:
        variable: The one that the caller has looked at before, for the message.

    Raises:
        UserError: There is no home folder.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        raise UserError(f"{why_no_home()}: set {variable} to a folder that can be written") from None


def why_no_home() -> str:
    """Return why there is no home folder, in words."""
    return f"there is no home folder, for HOME is not set and user id {os.getuid()} has no entry in /etc/passwd"
