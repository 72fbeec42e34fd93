"""Roles that wait as long as models on a GPU would compute: a real run whose models are latency stubs.

    plan = latency_stub_plan(config, latency)
    supervise(config, run_dir, plan, fill=latency.write)

Supervisor, ring, ledger, curriculum and production mix are those of every run. A renderer claims, waits as long as its
generator would take and commits cheap pictures; so the cores of a small machine are not what limits the run. Trainer
and captioner wait as well where the latency says so, and are the real ones where it does not.

    python -m polygen_stream.bench.latency_stubs.roles ROLE --run-dir DIR --ring-fd FD --name NAME [--generator RECIPE]

is how the supervisor starts them (ROLE: renderer, trainer, captioner). Latencies are read from DIR/latency_stubs.json.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.base.files import PARTIAL
from polygen_stream.base.jsonl import JsonLines
from polygen_stream.base.python import python_command
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.checkpoints import config_hash, describe_files, write_meta
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.launch.process_plan import ProcessPlan, ProcessSpec, build_process_plan
from polygen_stream.micro.painter import paint
from polygen_stream.micro.parse import parse
from polygen_stream.micro.world import BACKGROUNDS, COLOURS
from polygen_stream.producers import captioner
from polygen_stream.producers.renderer import POLL_S
from polygen_stream.ring import DrawRequest, WaitStopped
from polygen_stream.roles.role import RoleContext, run_role

FILE = "latency_stubs.json"
GRAIN = 8  # a picture is as many squares wide and high


@dataclass(frozen=True)
class Latency:
    """How long the models of a run would take.

    Args:
        image_s: seconds per picture of each generator, by recipe name.
        call_s: seconds of a pipeline call besides, whatever its size.
        replicas: renderer processes of each generator that has more than one.
        step_s: seconds of a training step; None = the real trainer.
        caption_s: seconds per caption, its hard negative included; None = the config's captioner.
        painted: pictures are the micro painter's of the caption, from which a model can learn; else coarse squares.
    """

    image_s: Mapping[str, float]
    call_s: float = 0.0
    replicas: Mapping[str, int] = field(default_factory=dict)
    step_s: float | None = None
    caption_s: float | None = None
    painted: bool = False

    def write(self, run_dir: Path) -> None:
        """Leaves the latencies in a run folder, where the roles look for them."""
        (run_dir / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, run_dir: Path) -> Latency:
        """Return the latencies that `write` left in a run folder."""
        return cls(**json.loads((run_dir / FILE).read_text(encoding="utf-8")))


def latency_stub_plan(config: RunConfig, latency: Latency) -> ProcessPlan:
    """The plan of `config` with its renderers, and trainer and captioner if they are to wait, replaced by these.

    There is no evaluator, for a model that was not trained, if the trainer only waits; and no report.
    """
    plan, processes = build_process_plan(config), []
    for process in plan.with_role(
        "trainer", "renderer", "captioner", *(["evaluator"] if latency.step_s is None else [])
    ):
        if process.role == "renderer":
            count = latency.replicas.get(str(process.generator), 1)
            names = [process.name, *(f"{process.name}-{number}" for number in range(2, count + 1))]
            processes += [replace(_as_stub(process), name=name) for name in names]
        elif {"trainer": latency.step_s, "captioner": latency.caption_s}.get(process.role) is not None:
            assert process.rank is None, "a trainer that only waits has one rank"
            processes.append(_as_stub(process))
        else:
            processes.append(process)
    return ProcessPlan(tuple(processes), plan.ring)


def _as_stub(process: ProcessSpec) -> ProcessSpec:
    return replace(process, command=tuple(python_command("-m", __spec__.name, process.role)))


def renderer(context: RoleContext) -> None:
    """Claim, wait as long as the generator would take, and commit images, until nothing is left to render."""
    config, ring, latency, name = context.config, context.ring, Latency.read(context.run_dir), str(context.generator)
    index, image_s = config.generators.names.index(name), latency.image_s[name]
    while not context.stopping:
        began = time.monotonic()
        claims = ring.claim([index], config.generators.batch)
        if not claims:
            stats = ring.stats()
            if stats.finished_opening and not stats.backlog[name]:
                return
            time.sleep(POLL_S)
            ring.heartbeat("waiting for captions", waited_s=time.monotonic() - began)
            continue
        ring.heartbeat(f"rendering {len(claims)} images")
        paint_one = painted if latency.painted else picture
        images = np.stack([paint_one(claim.caption, claim.seed, config.ring.image_size) for claim in claims])
        _sleep_until(began + latency.call_s + image_s * len(claims))
        ring.commit(claims, images)
        ring.heartbeat("rendered", busy_s=time.monotonic() - began)


def picture(caption: str, seed: int, size: int) -> np.ndarray:
    """A picture that costs nothing, uint8 [size, size, 3]: coarse squares, half of the caption and half of the seed.

    The pictures of a caption look alike, so that a model could learn which is which.
    """
    of_caption, of_seed = (seeding.rng(part).integers(0, 128, (GRAIN, GRAIN, 3), np.uint8) for part in (caption, seed))
    place = np.arange(size) * GRAIN // size
    return (of_caption + of_seed)[place][:, place]


def painted(caption: str, seed: int, size: int) -> np.ndarray:
    """What a caption of the micro world says, painted, uint8 [size, size, 3]; size is a multiple of the painter's 32.

    Colours and a background that it does not name follow from the seed.

    Raises:
        NotACaption: it is none of the micro world.
    """
    rng, scene = seeding.rng(caption, seed), parse(caption)
    things = [replace(thing, colour=thing.colour or str(rng.choice(list(COLOURS)))) for thing in scene.things]
    background = scene.background or str(rng.choice(list(BACKGROUNDS)))
    small = paint(replace(scene, things=tuple(things), background=background), rng)
    return small.repeat(size // len(small), 0).repeat(size // len(small), 1)


def trainer(context: RoleContext) -> None:
    """Draws and reads batch after batch and keeps metrics, as the trainer does; leaves a checkpoint without a model."""
    config, ring, run_dir = context.config, context.ring, context.run_dir
    curriculum, step_s = curriculum_of(config), Latency.read(run_dir).step_s
    metrics, started = JsonLines(context.run_folder.metrics), time.monotonic()
    for step in range(config.train.steps):
        mix = curriculum.draw(step)
        try:
            request = DrawRequest(step, mix.plain, mix.pair)
            draw = ring.draw(request, config.ring.draw_timeout_s, lambda: context.stopping)
        except WaitStopped:
            return
        began = time.monotonic()
        slots = [slot for group in draw.groups for slot in (*group.positive_slots, *group.negative_slots)]
        ring.read(slots)
        ring.release(draw)
        _sleep_until(began + (step_s or 0.0))
        ring.set_step(step + 1)
        took_s, stats = time.monotonic() - began, ring.stats()
        ring.heartbeat(f"step {step + 1} of {config.train.steps}", draw.waited_s, took_s)
        metrics.write(
            {
                "step": step,
                "time": time.monotonic() - started,
                "p": mix.share,
                "wait_s": draw.waited_s,
                "step_s": took_s,
                "images": len(slots),
                "images_committed": sum(stats.images_committed.values()),
                "mean_reuse": stats.mean_reuse,
            }
        )
    _finish(context)


def _finish(context: RoleContext) -> None:
    """A final checkpoint with nothing in it: by it the supervisor knows that the steps are done."""
    config = context.config
    folder = context.run_folder.checkpoint(config.train.steps)
    partial_folder = folder.with_name(f"{PARTIAL}{folder.name}")
    partial_folder.mkdir(parents=True)
    meta = {"step": config.train.steps, "final": True, "model": "latency stub", "config_hash": config_hash(config)}
    write_meta(partial_folder, meta | {"files": describe_files(partial_folder)})
    partial_folder.rename(folder)


class LatencyStubSource(GrammarSource):
    """Writes the grammar's captions of micro scenes, as slowly as language models would."""

    def __init__(self, caption_s: float) -> None:
        super().__init__()
        self._caption_s = caption_s

    def collect(self) -> list[Caption | Dropped]:
        """Return the captions written, after as long as language models would take."""
        began = time.monotonic()
        written = super().collect()
        _sleep_until(began + self._caption_s * len(written))
        return written


def _captioner(context: RoleContext) -> None:
    caption_s = Latency.read(context.run_dir).caption_s or 0.0
    captioner.main(context, lambda _: LatencyStubSource(caption_s))


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


ROLES = {"renderer": renderer, "trainer": trainer, "captioner": _captioner}

if __name__ == "__main__":
    role = sys.argv.pop(1)
    run_role(ROLES[role], role)
