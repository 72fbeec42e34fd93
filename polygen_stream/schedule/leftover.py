"""The leftover queue: groups a batch did not take although they were there, kept until one does.

The paper's curriculum has such a queue "for data efficiency" and says no more. Our reading has three lanes:

    displaced    a base group whose first draw a hard negative's text took the place of
    unadmitted   a group whose negative was rendered before the curriculum admits it
    ragged       a group of an incomplete batch, or of a step that was not trained on

An entry is a group by (row, generation), pinned in the ring, so that it is not evicted while it waits. At most a
quarter of the ring's groups wait, in all lanes together; the ring may refuse a pin before that. A lane is first
in, first out, nothing waits longer than `max_age` steps, and what does not wait is dropped with a reason. Nothing gets
lost: in each lane, entered = trained + waiting + dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import Any, Protocol

Group = tuple[int, int]  # row in the ring, generation


class Lane(StrEnum):
    """Why a group waits."""

    DISPLACED = "displaced"
    UNADMITTED = "unadmitted"
    RAGGED = "ragged"


class Reason(StrEnum):
    """Why a group no longer waits, or never did."""

    FULL = "full"  # the queue is full, or as many groups are pinned as may be
    GONE = "gone"  # the ring has evicted it
    OLD = "old"  # waited max_age steps


class PinnableRing(Protocol):
    """What the queue needs of a ring."""

    def pin(self, row: int, generation: int) -> Enum:
        """Pin a group. Return an enum member whose value is "pinned", or that of a Reason."""
        ...

    def unpin(self, row: int, generation: int) -> bool:
        """Unpin a group. Return whether it was pinned."""
        ...


class LeftoverQueue:
    """Three lanes of pinned groups.

    Args:
        ring: the ring they lie in.
        groups: groups the ring has room for.
        max_age: steps a group may wait.
    """

    SHARE = 4  # 1 / this part of the ring's groups may wait

    def __init__(self, ring: PinnableRing, groups: int, max_age: int) -> None:
        if max_age < 1:
            raise ValueError(f"a leftover queue needs max_age >= 1, not {max_age}")
        self._ring = ring
        self._most = groups // self.SHARE
        self._max_age = max_age
        self._lanes: dict[Lane, dict[Group, int]] = {lane: {} for lane in Lane}  # step of entry, in order
        self.entered = dict.fromkeys(Lane, 0)
        self.trained = dict.fromkeys(Lane, 0)
        self.dropped = {lane: dict.fromkeys(Reason, 0) for lane in Lane}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def waiting(self, lane: Lane) -> list[Group]:
        """Return the groups that wait, longest first."""
        return list(self._lanes[lane])

    def put(self, lane: Lane, group: Group, step: int) -> Reason | None:
        """Let a group wait from `step` on, unless it does already. Return why it cannot, else None."""
        if any(group in waiting for waiting in self._lanes.values()):
            return None
        latest = next(reversed(self._lanes[lane].values()), step)
        assert step >= latest, "steps go on, or a lane has no order"
        self.entered[lane] += 1
        answer = self._ring.pin(*group).value if len(self) < self._most else Reason.FULL
        if answer == "pinned":
            self._lanes[lane][group] = step
            return None
        self.dropped[lane][Reason(answer)] += 1
        return Reason(answer)

    def drawn(self, lane: Lane, groups: Iterable[Group]) -> None:
        """Remove groups from a lane: they were trained on in the way that the lane waits for."""
        for group in groups:
            if self._lanes[lane].pop(group, None) is not None:
                self._ring.unpin(*group)
                self.trained[lane] += 1

    def expire(self, step: int) -> None:
        """Drop the groups that have waited `max_age` steps."""
        for lane, waiting in self._lanes.items():
            for group in [group for group, entry in waiting.items() if step - entry >= self._max_age]:
                self._drop(lane, group, Reason.OLD)

    def settle(self, pinned: Iterable[Group]) -> None:
        """After loading a state: drop groups that are no longer pinned, and unpin those that do not wait.

        Args:
            pinned: every group that the ring has pinned.
        """
        pinned = set(pinned)
        for lane, waiting in self._lanes.items():
            for group in [group for group in waiting if group not in pinned]:
                self._drop(lane, group, Reason.GONE)
        for group in pinned.difference(*self._lanes.values()):
            self._ring.unpin(*group)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return for each lane: entered = trained + waiting + what was dropped, by reason."""
        return {
            str(lane): {
                "entered": self.entered[lane],
                "trained": self.trained[lane],
                "waiting": len(self._lanes[lane]),
                **{f"dropped_{reason}": count for reason, count in self.dropped[lane].items()},
            }
            for lane in Lane
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the lanes and the counts, for JSON."""
        return {
            "waiting": {str(lane): [[*g, step] for g, step in w.items()] for lane, w in self._lanes.items()},
            "entered": {str(lane): count for lane, count in self.entered.items()},
            "trained": {str(lane): count for lane, count in self.trained.items()},
            "dropped": {str(lane): {str(r): n for r, n in counts.items()} for lane, counts in self.dropped.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; `settle` makes it agree with the ring."""
        for lane in Lane:
            self._lanes[lane] = {(row, generation): step for row, generation, step in state["waiting"][lane]}
            self.entered[lane] = state["entered"][lane]
            self.trained[lane] = state["trained"][lane]
            self.dropped[lane] = {reason: state["dropped"][lane][reason] for reason in Reason}

    def _drop(self, lane: Lane, group: Group, reason: Reason) -> None:
        del self._lanes[lane][group]
        self._ring.unpin(*group)
        self.dropped[lane][reason] += 1
