"""Any sequence of calls by any processes, deaths included, leaves the ring in the state the plain model says."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ring_model import Image, RingModel, Ticket
from ring_observations import look_at_model, look_at_ring
from ring_process import Died, Hands, RingProcess
from ring_strategies import (
    AGES,
    DIE_AT,
    GENERATORS,
    HERE,
    INDEX,
    RARELY,
    SEATS,
    WINDOWS,
    members_of,
    requests,
    specs,
)

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring import Claim, Draw, Kind, Member, Ring, RingSpec


@dataclass
class Lease:
    process: str
    draw: Draw
    held: bool = True


class Here(Hands):
    """The calls of a RingProcess, made by this process."""

    def call(self, method: str, *arguments, die_at: int | None = None):
        return getattr(self, method)(*arguments)


class RingMachine(RuleBasedStateMachine):
    """Real processes call the real ring; the model is called beside it and both must answer and look the same."""

    def __init__(self) -> None:
        super().__init__()
        self.ring: Ring | None = None
        self.processes: dict[str, RingProcess | Here] = {}  # by name; a name is never used again
        self.seats: dict[str, str] = {}  # seat -> name of the process on it now
        self.tickets: list[tuple[Claim, Ticket]] = []  # every claim ever handed out, stale ones too
        self.leases: list[Lease] = []
        self.tasks = 0

    def teardown(self) -> None:
        for seat, name in self.seats.items():
            if seat != HERE:
                self.processes[name].kill()
        if self.ring is not None:
            self.ring.close()

    @initialize(spec=specs(), wishes=st.lists(requests(), min_size=2, max_size=6))
    def create(self, spec: RingSpec, wishes) -> None:
        self.ring = Ring.create(spec, lock_timeout_s=20.0)
        self.model = RingModel(spec)
        self.ring.register("test", HERE)
        self.processes[HERE], self.seats[HERE] = Here(self.ring), HERE
        self.live(wishes, len(GENERATORS), 1)

    # ---- everybody

    @rule(wishes=st.lists(requests(), min_size=1, max_size=3), idle=st.integers(0, 5), count=st.integers(0, 3))
    def live(self, wishes, idle, count) -> None:
        """A healthy stretch: opens what fits, renders all but for one generator, trains. Single calls get nowhere."""
        for wish in wishes:
            if self.model.can_open(members_of(self.tasks, wish)):
                self.open_group(HERE, wish, None)
            for generator in {image.member.generator for image in self.wanted()} - {idle}:
                self.claim(HERE, [generator], 20, None)
            if held := self.writing().get(HERE):
                self.end(HERE, held, "commit", None)
            leases = len(self.leases)
            if count and self.model.complete_groups():
                self.draw(HERE, self.tasks, count, 0, None)
            if len(self.leases) > leases:
                self.release_one(self.leases[-1], None)

    # ---- producers

    @rule(seat=SEATS, wish=requests(), die_at=DIE_AT)
    def open_group(self, seat, wish, die_at) -> None:
        kind, caption, negative, _ = wish
        members = members_of(self.tasks, wish)
        task = self.tasks * 2**40 + 5  # ids need not be dense
        request = (kind, caption, negative, members)
        self.tasks += 1
        process, before = self.process(seat), copy.deepcopy(self.model)
        try:
            self.both("open_group", "open", process, (task, *request), (0.0,), die_at, names_process=False)
        except Died:  # the one operation of several steps: every eviction is final by itself
            steps = [before]
            for victim in copy.deepcopy(before).victims(members) if self.model.group(task) else []:
                steps.append(copy.deepcopy(steps[-1]))
                steps[-1].evict(steps[-1].group(victim.task))
            self.bury(seat, *steps)

    @precondition(lambda self: self.wanted())
    @rule(
        seat=SEATS,
        generators=st.lists(st.integers(0, 2), min_size=1, max_size=3),
        limit=st.integers(1, 6),
        die_at=DIE_AT,
    )
    def claim(self, seat, generators, limit, die_at) -> None:
        process, before = self.process(seat), copy.deepcopy(self.model)
        try:
            claims, tickets = self.both("claim", "claim", process, (generators, limit), (), die_at)
        except Died:
            self.bury(seat, before)
            return
        assert len(claims) == len(tickets)
        for claim, (task, number, _) in zip(claims, tickets, strict=True):
            group = self.model.group(task)
            member = group.images[number].member
            text = group.negative if member.polarity else group.caption
            assert (claim.task_id, claim.member, claim.caption) == (task, number, text)
            assert Member(claim.generator, claim.polarity, claim.seed) == member
        handed_out = {(claim.slot, claim.generation) for claim, _ in self.tickets}
        assert handed_out.isdisjoint({(claim.slot, claim.generation) for claim in claims})
        self.tickets += zip(claims, tickets, strict=True)

    @precondition(lambda self: self.tickets)
    @rule(
        seat=SEATS,
        picks=st.lists(INDEX, min_size=1, max_size=6),
        how=st.sampled_from(["commit", "fail"]),
        die_at=DIE_AT,
    )
    def end_any_claims(self, seat, picks, how, die_at) -> None:
        """Ours, those of others, of the dead, ended ones, one given twice."""
        self.end(seat, [self.tickets[pick % len(self.tickets)] for pick in picks], how, die_at)

    @precondition(lambda self: self.writing())
    @rule(
        picks=st.lists(INDEX, min_size=1, max_size=6), how=st.sampled_from(["commit", "commit", "fail"]), die_at=DIE_AT
    )
    def end_held_claims(self, picks, how, die_at) -> None:
        """What one process holds now, or a part of it."""
        by_seat = self.writing()
        seat = sorted(by_seat)[picks[0] % len(by_seat)]
        self.end(seat, [by_seat[seat][pick % len(by_seat[seat])] for pick in picks], how, die_at)

    def end(self, seat: str, chosen: list[tuple[Claim, Ticket]], how: str, die_at: int | None) -> None:
        process, before = self.process(seat), copy.deepcopy(self.model)
        claims, tickets = [list(part) for part in zip(*chosen, strict=True)]
        try:
            accepted, expected = self.both(how, how, process, (claims,), (), die_at, model_arguments=(tickets,))
        except Died:
            self.bury(seat, before)
            return
        assert accepted == expected

    # ---- trainer

    @precondition(lambda self: self.model.groups)
    @rule(seat=SEATS, step=INDEX, plain=st.integers(0, 3), pair=st.integers(0, 2), die_at=DIE_AT)
    def draw(self, seat, step, plain, pair, die_at) -> None:
        if not plain + pair:
            plain = 1
        process, before = self.process(seat), copy.deepcopy(self.model)
        if plain + pair > self.model.spec.groups:
            return
        try:
            answer, expected = self.both("draw", "draw", process, (step, plain, pair), (), die_at)
        except Died:
            self.bury(seat, before)
            return
        if answer is None:
            return  # refused by both
        draw, images = answer
        assert len(draw.groups) == plain + pair
        for drawn, pixels, (group, kind) in zip(draw.groups, images, expected, strict=True):
            shown = group.ready(0) + (group.ready(1) if kind is Kind.PAIR else [])
            assert (drawn.task_id, drawn.kind, drawn.times_sampled) == (group.task, kind, group.times - 1)
            assert (drawn.caption, drawn.negative) == (group.caption, group.negative if kind is Kind.PAIR else None)
            generators = [image.member.generator for image in shown]
            assert [*drawn.positive_generators, *drawn.negative_generators] == generators
            assert len(drawn.positive_slots) == len(group.ready(0))
            for picture, image in zip(pixels, shown, strict=True):
                member = image.member
                rng = np.random.default_rng([member.seed, member.polarity])
                assert (picture == rng.integers(0, 256, (4, 4, 3), np.uint8)).all()
        self.leases.append(Lease(process, draw))

    @precondition(lambda self: any(lease.process in self.seats.values() for lease in self.leases))
    @rule(pick=INDEX, die_at=DIE_AT)
    def release(self, pick, die_at) -> None:
        """Any draw of a living process, perhaps for the second time."""
        mine = [lease for lease in self.leases if lease.process in self.seats.values()]
        self.release_one(mine[pick % len(mine)], die_at)

    def release_one(self, lease: Lease, die_at: int | None) -> None:
        process, before = self.processes[lease.process], copy.deepcopy(self.model)
        if lease.held:
            self.model.release(lease.process, [group.task_id for group in lease.draw.groups])
        try:
            if lease.held:
                process.call("release", lease.draw.lease, die_at=die_at)
                lease.held = False
            else:
                with pytest.raises(ValueError, match="not leased by this process"):
                    process.call("release", lease.draw.lease)
        except Died:
            self.bury(next(seat for seat, name in self.seats.items() if name == lease.process), before)

    @precondition(lambda self: self.leases)
    @rule(pick=INDEX, which=INDEX, unpin=st.booleans())
    def pin(self, pick, which, unpin) -> None:
        """Of any group that was ever drawn, wherever it is now."""
        groups = self.leases[pick % len(self.leases)].draw.groups
        group = groups[which % len(groups)]
        name = "unpin" if unpin else "pin"
        answer = getattr(self.ring, name)(group.row, group.generation)
        assert answer == getattr(self.model, name)(group.task_id)

    # ---- supervisor and the fates

    @rule(steps=st.integers(1, 4))
    def set_step(self, steps) -> None:
        self.model.step += steps
        self.ring.set_step(self.model.step)

    @rule(window=WINDOWS, most=st.integers(0, 3), age=AGES)
    def set_limits(self, window, most, age) -> None:
        ratio, buffer = window
        try:
            self.model.set_limits(ratio, buffer, most, age)
            refused = False
        except UserError:
            refused = True
        names = ("samples_per_insert", "error_buffer", "max_times_sampled", "max_age")
        try:
            self.ring.set_limits(**dict(zip(names, (ratio, buffer, most, age), strict=True)))
        except UserError:
            assert refused
        else:
            assert not refused

    @precondition(lambda self: len(self.seats) > 1)
    @rule(pick=INDEX, really=RARELY)
    def kill(self, pick, really) -> None:
        if not really:
            return
        mortal = sorted(self.seats.keys() - {HERE})
        name = self.seats.pop(mortal[pick % len(mortal)])
        self.processes[name].kill()
        self.model.dead.add(name)

    @rule()
    def reap(self) -> None:
        assert len(self.ring.reap()) == self.model.reap()

    @precondition(lambda self: self.tasks > 8 and not self.model.down)
    @rule(generator=st.integers(0, 2), really=RARELY)
    def generator_down(self, generator, really) -> None:
        if really:  # it is for good
            self.ring.generator_down(generator)
            self.model.generator_down(generator)

    @precondition(lambda self: self.tasks > 8)
    @rule(really=RARELY)
    def finish_opening(self, really) -> None:
        if really:
            self.ring.finish_opening()
            self.model.finished = True

    # ---- comparison

    @invariant()
    def the_ring_looks_like_the_model(self) -> None:
        if self.ring is not None:
            assert self.ring.check() == []
            assert look_at_ring(self.ring) == look_at_model(self.model)

    # ---- helpers

    def process(self, seat: str) -> str:
        if seat not in self.seats:
            name = f"{seat}{len(self.processes)}"
            self.processes[name] = RingProcess(self.ring, name)
            self.seats[seat] = name
        return self.seats[seat]

    def wanted(self) -> list[Image]:
        return [image for group in self.model.groups for image in group.images if image.state == "wanted"]

    def writing(self) -> dict[str, list[tuple[Claim, Ticket]]]:
        """Claims that are still good, by seat."""
        found = {
            seat: [entry for entry in self.tickets if self.model.held(name, entry[1])]
            for seat, name in self.seats.items()
        }
        return {seat: claims for seat, claims in found.items() if claims}

    def both(self, method, model_method, process, arguments, more, die_at, model_arguments=None, names_process=True):
        """Answers of ring and model; both must refuse with the same error: then (None, None). Died: see `bury`."""
        given = arguments if model_arguments is None else model_arguments
        refusal = expected = None
        try:
            expected = getattr(self.model, model_method)(*([process] if names_process else []), *copy.deepcopy(given))
        except PolygenError as error:
            refusal = type(error)
        try:
            answer = self.processes[process].call(method, *arguments, *more, die_at=die_at)
        except PolygenError as error:
            assert type(error) is refusal, f"ring: {error!r}, model: {refusal}"
            return None, None
        assert refusal is None, f"the model refuses with {refusal}, the ring answers {answer}"
        return answer, expected

    def bury(self, seat: str, *befores: RingModel) -> None:
        """A process died inside a call: it was done wholly or not at all. Whichever it was is the state from here."""
        name = self.seats.pop(seat)
        found = len(self.ring.reap())
        ends = [*befores, self.model]
        for model in ends:
            model.dead.add(name)
            assert model.reap() == found
        seen = look_at_ring(self.ring)
        self.model = next((model for model in ends if look_at_model(model) == seen), None)
        assert self.model is not None, f"{seen} is none of {[look_at_model(model) for model in ends]}"


COMMON = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


class TestRingModel(RingMachine.TestCase):
    """The same examples every time. A failure is reported as found: shrinking takes longer than a test may."""

    settings = settings(
        COMMON, max_examples=40, stateful_step_count=40, derandomize=True, phases=[Phase.explicit, Phase.generate]
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)
class TestRingModelAtLength(RingMachine.TestCase):
    """Other examples every time; a failure is shrunk and printed with what reproduces it."""

    settings = settings(COMMON, max_examples=2000, stateful_step_count=100, print_blob=True)
