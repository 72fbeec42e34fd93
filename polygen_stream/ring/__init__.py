"""Shared-memory replay buffer of image groups, between renderers and trainer. Needs numpy only."""

from polygen_stream.ring.errors import (
    CaptionTooLong,
    LockTimeout,
    LostLock,
    RingExhausted,
    RingMismatch,
    RingTimeout,
    WaitStopped,
)
from polygen_stream.ring.records import Claim, Draw, DrawnGroup, Kind, Member
from polygen_stream.ring.ring import Ring
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.stats import RingStats

__all__ = [
    "CaptionTooLong",
    "Claim",
    "Draw",
    "DrawnGroup",
    "Kind",
    "LockTimeout",
    "LostLock",
    "Member",
    "Ring",
    "RingExhausted",
    "RingMismatch",
    "RingSpec",
    "RingStats",
    "RingTimeout",
    "WaitStopped",
]
