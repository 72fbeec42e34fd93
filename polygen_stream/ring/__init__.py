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
from polygen_stream.ring.feedback import CellMeans, Feedback, Measurement, row_name
from polygen_stream.ring.layout import FEEDBACK_NAMES, ring_bytes
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
    "FEEDBACK_NAMES",
    "CaptionTooLong",
    "CellMeans",
    "Claim",
    "Draw",
    "DrawRecord",
    "DrawRequest",
    "DrawSummary",
    "DrawnGroup",
    "Feedback",
    "GeneratorsDown",
    "GroupRequest",
    "JournalFull",
    "Kind",
    "Limits",
    "LockTimeout",
    "LostLock",
    "Measurement",
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
    "row_name",
]
