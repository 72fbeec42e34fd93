"""The exceptions every layer may raise on purpose, and the exit code each one stands for."""

from __future__ import annotations


class PolygenError(Exception):
    """A run that failed for a named reason: which process, which limit, what it waited for."""

    exit_code = 1


class UserError(PolygenError, ValueError):
    """Bad input: one line that says what, where and what to do. Shown without a traceback."""

    exit_code = 2


class Damaged(UserError):
    """A file is not what was once written: missing, cut or altered. Another one has to do."""


class RankLost(PolygenError):
    """A rank that cannot go on because another one did not: the other says why, or was killed."""

    exit_code = 3
