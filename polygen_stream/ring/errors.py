"""Errors of the ring. Each message is one line that names a culprit and a remedy."""

from __future__ import annotations

from polygen_stream.base.errors import PolygenError, UserError


class RingTimeout(PolygenError):
    """A wait passed its deadline; the message names the lagging kind, generator and process."""


class RingExhausted(PolygenError):
    """Production is over and what is left in the ring can never satisfy this draw."""


class WaitStopped(PolygenError):
    """The caller's `stop` function asked to give up a wait."""


class GeneratorsDown(PolygenError):
    """A group could not get a single positive: every generator it asks for was given up."""


class LockTimeout(PolygenError):
    """The ring's mutex was not granted in time. `pid` is the process that holds it (0 = unknown)."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class LostLock(PolygenError):
    """The mutex cannot be recovered: a dead holder left a state that breaks an invariant. Ends the run."""


class JournalFull(PolygenError):
    """A transition is larger than the undo journal was laid out for; it was undone."""


class CaptionTooLong(UserError):
    """A caption needs more UTF-8 bytes than the ring's fixed caption area; it is rejected, never cut."""


class RingMismatch(UserError):
    """A ring or a snapshot that is whole, but not this process's: another version, spec, libc or PID namespace."""
