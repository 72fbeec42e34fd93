"""The rules of the ring said a second time, in lists and dicts, for the real one to be held against.

No arrays, no rows, no slots: a group is an object, a process a name, room is a sum. What the ring would refuse
raises the same error here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.seeding import key
from polygen_stream.ring import CaptionTooLong, Kind, Member, PinResult, RingExhausted, RingSpec, RingTimeout

Ticket = tuple[int, int, int]  # task id, number of the image in its group, how often that image was claimed before


@dataclass
class Image:
    member: Member
    state: str = "wanted"  # "wanted" | "writing" | "ready" | "failed"
    owner: str | None = None  # who is writing it
    retries: int = 0
    claims: int = 0


@dataclass
class Group:
    task: int
    kind: Kind
    caption: str
    negative: str | None
    images: list[Image]
    born: int  # step at its opening
    times: int = 0  # draws so far
    round: int = 0  # in which it is to be drawn next
    pinned: bool = False
    leases: Counter = field(default_factory=Counter)  # process -> leases

    @property
    def is_open(self) -> bool:
        return any(image.state in ("wanted", "writing") for image in self.images)

    def ready(self, polarity: int) -> list[Image]:
        return [image for image in self.images if image.state == "ready" and image.member.polarity == polarity]


class RingModel:
    """`groups` holds what lies in the ring, oldest first."""

    def __init__(self, spec: RingSpec) -> None:
        self.spec = spec
        self.groups: list[Group] = []
        self.dead: set[str] = set()  # died, but nobody has looked
        self.down: set[int] = set()  # generators
        self.finished = False
        self.step = 0
        self.ratio, self.buffer = spec.samples_per_insert, spec.error_buffer
        self.credit = 0.0  # of the rate limiter, by changes of its numbers
        self.most, self.age = spec.max_times_sampled, spec.max_age
        self.rounds = dict.fromkeys(Kind, 0)  # that draws have reached
        self.largest_draw = 0
        self.totals: Counter = Counter()
        self.committed: Counter = Counter()  # by generator
        self.failed: Counter = Counter()  # by generator

    def group(self, task: int) -> Group | None:
        return next((group for group in self.groups if group.task == task), None)

    def open_groups(self) -> list[Group]:
        return [group for group in self.groups if group.is_open]

    def complete_groups(self) -> list[Group]:
        return [group for group in self.groups if not group.is_open]

    # ---- producers

    def open(self, task: int, kind: Kind, caption: str, negative: str | None, members: list[Member]) -> None:
        if any(len(text.encode()) > self.spec.caption_bytes for text in (caption, negative or "")):
            self.totals["captions_rejected"] += 1
            raise CaptionTooLong
        for victim in self.victims(members):
            self.evict(victim)
        images = [Image(member) for member in members]
        for image in images:
            if image.member.generator in self.down:
                image.state = "failed"
                self.failed[image.member.generator] += 1
        self.groups.append(Group(task, kind, caption, negative, images, self.step))
        self.totals["opened"] += 1

    def victims(self, members: list[Member]) -> list[Group]:
        """What has to go before a group with these members comes; an error if it may not come now."""
        spec, opened = self.spec, len(self.open_groups())
        if self.finished or all(member.generator in self.down for member in members if member.polarity == 0):
            raise PolygenError
        pending, asked = self.backlog(), Counter(member.generator for member in members)
        full = spec.max_backlog and any(pending[generator] + asked[generator] > spec.max_backlog for generator in asked)
        too_far = self.lead(self.totals["completed"] + opened + 1) > self.buffer
        if opened >= spec.open_limit or full or (self.ratio and too_far):
            raise RingTimeout
        slots = spec.slots - sum(len(group.images) for group in self.groups) - len(members)
        rows = spec.groups - len(self.groups) - 1
        idle = [group for group in self.complete_groups() if not group.leases and not group.pinned]
        old = [group for group in idle if self.is_old(group)]
        used = [group for group in idle if group not in old and group.times >= (self.most or 1)]
        victims = []
        for victim in old + sorted(used, key=lambda group: -group.times):  # stable: the oldest among equals
            if slots >= 0 and rows >= 0:
                break
            victims.append(victim)
            slots, rows = slots + len(victim.images), rows + 1
        if slots < 0 or rows < 0:
            raise RingTimeout
        return victims

    def lead(self, inserts: int) -> float:
        """How far production is ahead of where the rate limiter wants it, in draws."""
        return self.ratio * (inserts - self.spec.min_fill) - self.totals["samples"] + self.credit

    def is_old(self, group: Group) -> bool:
        return bool(self.age) and group.born < self.step - self.age

    def backlog(self) -> Counter:
        """Images that are being waited for, by generator."""
        waited_for = ("wanted", "writing")
        return Counter(i.member.generator for group in self.groups for i in group.images if i.state in waited_for)

    def can_open(self, members: list[Member]) -> bool:
        try:
            self.victims(members)
        except PolygenError:
            return False
        return True

    def evict(self, group: Group) -> None:
        self.groups.remove(group)
        self.totals["evicted"] += 1

    def claim(self, process: str, generators: list[int], limit: int) -> list[Ticket]:
        wanted = [
            (group, number, image)
            for group in self.groups
            for number, image in enumerate(group.images)
            if image.state == "wanted"
        ]
        backlog = Counter(image.member.generator for _, _, image in wanted)
        longest = max(generators, key=lambda generator: backlog[generator])
        tickets = []
        for group, number, image in [entry for entry in wanted if entry[2].member.generator == longest][:limit]:
            image.state, image.owner = "writing", process
            tickets.append((group.task, number, image.claims))
            image.claims += 1
        return tickets

    def held(self, process: str, ticket: Ticket) -> Image | None:
        task, number, claims = ticket
        group = self.group(task)
        image = group.images[number] if group else None
        mine = image and image.state == "writing" and image.owner == process and image.claims == claims + 1
        return image if mine else None

    def commit(self, process: str, tickets: list[Ticket]) -> list[bool]:
        return [self._end_claim(process, ticket, self._show) for ticket in tickets]

    def fail(self, process: str, tickets: list[Ticket]) -> list[bool]:
        return [self._end_claim(process, ticket, self._try_again) for ticket in tickets]

    def _end_claim(self, process: str, ticket: Ticket, end) -> bool:
        image = self.held(process, ticket)
        if image is None:
            self.totals["stale"] += 1
            return False
        end(image)
        self._finish(self.group(ticket[0]))
        return True

    def _show(self, image: Image) -> None:
        image.state, image.owner = "ready", None
        self.committed[image.member.generator] += 1

    def _try_again(self, image: Image) -> None:
        image.owner = None
        if image.retries == self.spec.max_retries or image.member.generator in self.down:
            self._give_up(image)
        else:
            image.state = "wanted"
            image.retries += 1
            self.totals["retries"] += 1

    def _give_up(self, image: Image) -> None:
        image.state = "failed"
        self.failed[image.member.generator] += 1

    def _finish(self, group: Group) -> None:
        """Called after an image of the group ended, or could have."""
        if group.is_open:
            return
        if not group.ready(0):
            self.groups.remove(group)
            self.totals["dropped"] += 1
            return
        self.totals["completed"] += 1
        self.totals["degraded"] += any(image.state == "failed" for image in group.images)
        if any(image.member.polarity == 1 for image in group.images) and not group.ready(1):
            group.kind = Kind.PLAIN
            self.totals["demoted"] += 1
        group.round = self.rounds[group.kind]

    # ---- trainer

    def draw(self, process: str, step: int, plain: int, pair: int) -> list[tuple[Group, Kind]]:
        """The groups with the kind each is drawn as: PLAIN first."""
        count, completed = plain + pair, self.totals["completed"]
        if self.ratio and 2 * self.buffer < count + self.ratio:
            raise UserError
        over = self.finished and not self.open_groups()
        ahead = self.lead(completed) - count < -self.buffer
        if completed < self.spec.min_fill or (self.ratio and ahead and not self.finished):
            if over:
                raise RingExhausted
            self.largest_draw = max(self.largest_draw, count)
            raise RingTimeout
        chosen = self._choose(step, plain, pair)
        if chosen is None and over:
            raise RingExhausted
        self.largest_draw = max(self.largest_draw, count)
        if chosen is None:
            raise RingTimeout
        for group, _ in chosen:
            self.totals["groups_drawn"] += group.times == 0
            group.times += 1
            self.rounds[group.kind] = max(self.rounds[group.kind], group.round)
            group.round += 1
            group.leases[process] += 1
        self.totals["draws"] += 1
        self.totals["samples"] += count
        return chosen

    def _choose(self, step: int, plain: int, pair: int) -> list[tuple[Group, Kind]] | None:
        fresh = [group for group in self.complete_groups() if not self.is_old(group)]
        order = sorted(
            [group for group in fresh if not self.most or group.times < self.most],
            key=lambda group: (group.round, draw_hash(self.spec.seed, step, group.task)),
        )
        used: set[str] = set()
        taken: list[int] = []

        def take(kind: Kind, as_kind: Kind, count: int) -> list[tuple[Group, Kind]]:
            chosen = []
            for group in order:
                texts = {group.caption} | ({group.negative} if as_kind is Kind.PAIR else set())
                free = group.kind is kind and group.task not in taken and not texts & used
                if free and len(chosen) < count:
                    chosen.append((group, as_kind))
                    taken.append(group.task)
                    used.update(texts)
            return chosen

        pairs = take(Kind.PAIR, Kind.PAIR, pair)
        plains = take(Kind.PLAIN, Kind.PLAIN, plain)
        plains += take(Kind.PAIR, Kind.PLAIN, plain - len(plains))
        return plains + pairs if len(plains) == plain and len(pairs) == pair else None

    def release(self, process: str, tasks: list[int]) -> None:
        for task in tasks:
            group = self.group(task)
            group.leases[process] -= 1
            group.leases += Counter()  # drops zeros

    def pin(self, task: int) -> PinResult:
        group = self.group(task)
        if group is None or group.is_open:
            self.totals["pins_gone"] += 1
            return PinResult.GONE
        pinned = [other for other in self.groups if other.pinned and other is not group]
        slots = sum(len(other.images) for other in [*pinned, group])
        if not group.pinned and (4 * slots > self.spec.slots or 4 * (len(pinned) + 1) > self.spec.groups):
            self.totals["pins_refused"] += 1
            return PinResult.FULL
        group.pinned = True
        return PinResult.PINNED

    def unpin(self, task: int) -> bool:
        group = self.group(task)
        was_pinned = group is not None and group.pinned
        if was_pinned:
            group.pinned = False
        return was_pinned

    # ---- supervisor

    def set_limits(self, ratio: float, buffer: float, most: int, age: int) -> None:
        too_narrow = 2 * buffer < self.largest_draw + ratio
        if ratio and (too_narrow or 0 < most < ratio):
            raise UserError
        lead = self.lead(self.totals["completed"]) if self.ratio else 0.0
        self.ratio, self.buffer, self.most, self.age, self.credit = ratio, buffer, most, age, 0.0
        if ratio and self.totals["samples"]:  # the past counts as far as the new window reaches
            self.credit = max(-buffer, min(buffer, lead)) - self.lead(self.totals["completed"])

    def reap(self) -> int:
        """How many dead processes were found."""
        for group in list(self.groups):
            for image in group.images:
                if image.owner in self.dead:
                    self._try_again(image)
                    self.totals["reaped"] += 1
                    self._finish(group)
            for process in self.dead:
                del group.leases[process]
        found = len(self.dead)
        self.dead.clear()
        return found

    def generator_down(self, generator: int) -> None:
        self.down.add(generator)
        for group in self.open_groups():
            for image in group.images:
                if image.state == "wanted" and image.member.generator == generator:
                    self._give_up(image)
            self._finish(group)


def draw_hash(seed: int, step: int, task: int) -> int:
    """splitmix64's finalizer over the task id, offset by a key of seed and step."""
    value = (task + key("ring.draw", seed, step)) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31
