"""What a ring is made of: the values that fix its size and its rules. spec_checks.py says which are valid."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class RingSpec:
    """Sizes, rules and first limits of a ring. Ring.create refuses one that spec_checks.check_spec refuses.

    Attributes:
        slots: images the payload holds.
        image_shape: (H, W, 3) of each image, uint8.
        groups: rows of the group table.
        members: most images one group may ask for.
        caption_bytes: UTF-8 bytes reserved for each of T+ and T-.
        generators: names, in the order of the indices used everywhere else.
        seed: run seed, keys the order of draws.
        min_fill: first value of the limit, see limits.py; so are max_times_sampled, samples_per_insert, error_buffer
            and max_age.
        max_retries: renders of one member that may fail before the member is FAILED.
        max_open: groups that may be OPEN at once (0 = as many as fill half of the slots). It bounds the lead of the
            captioner over the renderers, so that opening cannot push out the groups the trainer still reuses.
        max_backlog: images of one generator that may be WANTED or WRITING when a further group asks for some of it
            (0 = no bound). It bounds the lead over the slowest generator where captions do not use all of them.
        mode: "throughput" draws from the groups that are complete; "deterministic" draws the batch of a step as a
            function of (seed, step) from a window of task ids, and waits until that window has ended (window.py);
            "replay" draws the tasks that the caller names.
        sampler: which of the groups that may be drawn a draw takes, a name or "module:attribute" (sampler.py).
        catch_up: how many times in a round a group that came late is drawn, at most (catch_up.py); 1 = once.
        expected_groups: groups of the whole run, for catch_up; 0 = unknown, which leaves late groups further behind.
        window: tasks in that window.
        inserts_per_step: tasks by which the window moves on per step.
        in_flight: groups that may be OPEN beyond the rate limiter's window, see limiter.py.
        images_per_draw: most images of T+, and of T-, that a draw takes of a group (0 = all), see views.py.
        feedback_half_life: training steps after which what they measured counts half, see feedback.py.
        storage: absolute path of the file that the images lie in (pixel_file.py); "" = memory.
    """

    slots: int
    image_shape: tuple[int, int, int]
    groups: int
    members: int
    caption_bytes: int
    generators: tuple[str, ...]
    seed: int
    min_fill: int = 1
    max_times_sampled: int = 0
    samples_per_insert: float = 0.0
    error_buffer: float = 0.0
    max_retries: int = 3
    max_open: int = 0
    max_age: int = 0
    max_backlog: int = 0
    mode: Literal["throughput", "deterministic", "replay"] = "throughput"
    sampler: str = "rounds"
    catch_up: float = 1.0
    expected_groups: int = 0
    window: int = 0
    inserts_per_step: float = 0.0
    in_flight: int = 0
    images_per_draw: int = 0
    feedback_half_life: float = 20.0
    storage: str = ""

    def __post_init__(self) -> None:
        # lists, as JSON has them, become tuples: a spec is hashable and equal to what it was written from
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "generators", tuple(self.generators))

    @property
    def deterministic(self) -> bool:
        """Whether batches are a function of (seed, step)."""
        return self.mode == "deterministic"

    @property
    def open_limit(self) -> int:
        """Groups that may be OPEN at once."""
        return self.max_open or max(1, self.slots // (2 * self.members))

    def to_json(self) -> str:
        """Return the spec as JSON, equal for equal specs."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RingSpec:
        """Read what `to_json` wrote; the values are not checked.

        Raises:
            ValueError: the text is not JSON.
            TypeError: it is not the JSON of a spec.
        """
        return cls(**json.loads(text))
