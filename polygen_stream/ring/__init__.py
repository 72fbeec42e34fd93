"""Shared-memory replay buffer of image groups between producers and a trainer. Needs numpy only."""

from polygen_stream.ring.errors import (
    CaptionTooLong,
    GeneratorsDown,
    JournalFull,
    LockTimeout,
    LostLock,
    RingExhausted,
    RingMismatch,
    RingTimeout,
    WaitStopped,
)
from polygen_stream.ring.layout import ring_bytes
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.records import (
    Claim,
    Draw,
    DrawnGroup,
    DrawRecord,
    DrawRequest,
    DrawSummary,
    GroupRequest,
    Kind,
    Member,
    PinResult,
)
from polygen_stream.ring.ring import Ring
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.spec_checks import check_spec
from polygen_stream.ring.stats import RingStats

__all__ = [
    "CaptionTooLong",
    "Claim",
    "Draw",
    "DrawRecord",
    "DrawRequest",
    "DrawSummary",
    "DrawnGroup",
    "GeneratorsDown",
    "GroupRequest",
    "JournalFull",
    "Kind",
    "Limits",
    "LockTimeout",
    "LostLock",
    "Member",
    "PinResult",
    "Ring",
    "RingExhausted",
    "RingMismatch",
    "RingSpec",
    "RingStats",
    "RingTimeout",
    "WaitStopped",
    "check_spec",
    "ring_bytes",
]
