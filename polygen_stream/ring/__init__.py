"""Shared-memory replay buffer of image groups, between renderers and trainer. Needs numpy only."""

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
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.records import Claim, Draw, DrawnGroup, DrawRecord, GroupRequest, Hold, Kind, Member, Post
from polygen_stream.ring.ring import Ring
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.stats import RingStats

__all__ = [
    "CaptionTooLong",
    "Claim",
    "Draw",
    "DrawRecord",
    "DrawnGroup",
    "GeneratorsDown",
    "GroupRequest",
    "Hold",
    "JournalFull",
    "Kind",
    "Limits",
    "LockTimeout",
    "LostLock",
    "Member",
    "Post",
    "Ring",
    "RingExhausted",
    "RingMismatch",
    "RingSpec",
    "RingStats",
    "RingTimeout",
    "WaitStopped",
]
