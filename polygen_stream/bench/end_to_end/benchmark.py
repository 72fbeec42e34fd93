"""`polygen-stream bench end-to-end`: streaming beside "render everything, then train", on the same devices.

Renderers sleep as a GPU would compute and then show the picture that the micro painter has of the caption, so that the
cores of this machine are not what limits either side and accuracy means something. The trainer is real, on both sides
the same model, loss, captions, pictures, number of images and number of steps.

Devices: one per generator and one of the trainer. Offline, all of them render first, the trainer's too, and then all of
them train; both is granted to it without any loss. So the render phase is shortened to g / (g + 1), and the time that
one trainer takes afterwards is divided by g + 1. Rendering is as long as it takes to keep the streaming run's trainer
busy from beginning to end: its step is timed first.

    result["streaming"], result["offline"]: seconds to the first step and in all, curve [[seconds, accuracy]], bytes of
    pictures on disk; of streaming also waiting, busy shares, utilisation, and the share of hard negatives never drawn
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.json_files import read_json
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.bench.end_to_end.offline import render_all, train_from_shards
from polygen_stream.bench.latency_stubs.roles import Latency, latency_stub_plan
from polygen_stream.captions.journal import read_journal
from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.config import RunConfig, curriculum_of, load_config
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.metrics import ranks
from polygen_stream.evaluate.micro_suite import Classification, classification, thing_prompts
from polygen_stream.export.samples import journal_samples
from polygen_stream.export.shards import ShardSample
from polygen_stream.launch.process_plan import ProcessPlan
from polygen_stream.launch.supervise import supervise
from polygen_stream.micro.world import Split
from polygen_stream.ring import Kind
from polygen_stream.ring.draw_log import read_draw_log
from polygen_stream.train.model import create_clip, load_clip, load_model_state

IMAGES_PER_THING = 20
POINTS = 20  # checkpoints that are scored
TIMED_STEPS = 40
# Rendering takes so much of the time that training takes, for the pictures that `expected_pairs` says. The production
# mix looks ahead, so that there are a tenth to a sixth more: it is 0.9 in all.
SLACK = 0.78


def bench_end_to_end(
    steps: int, captions: int, batch: int, folder: Path | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Both pipelines, one after the other.

    Args:
        steps: Optimizer steps of each.
        captions: Captions to render.
        batch: Texts of a step.
        folder: Where runs and shards are left; None: nowhere.
        say: Called with a line of progress.

    Raises:
        PolygenError: the streaming run did not complete.
    """
    with TemporaryDirectory() as scratch:
        return _bench(steps, captions, batch, folder or Path(scratch), say)


def _bench(steps: int, captions: int, batch: int, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    config = _config(steps, captions, batch)
    generators = config.generators.names
    say("timing a training step")
    step_s = _step_seconds(config, folder / "timing", say)
    images = captions * config.generators.positives + expected_pairs(config) * config.generators.negatives
    image_s = SLACK * steps * step_s * len(generators) / images
    latency = Latency(dict.fromkeys(generators, image_s))
    say(f"a step takes {step_s:.3f} s: {image_s:.3f} s a picture, {steps * step_s:.0f} s of training")
    streaming = _stream(config, latency, step_s, folder / "streaming")
    say(f"streaming: first step after {streaming['first_step_s']:.1f} s, all after {streaming['seconds']:.1f} s")
    journal = list(read_journal(RunFolder(folder / "streaming").journal))
    samples = list(journal_samples(journal, config.generators.negatives))
    offline = _offline(config, latency, samples, folder / "shards", say)
    say(f"offline: first step after {offline['first_step_s']:.1f} s, all after {offline['seconds']:.1f} s")
    return {
        "steps": steps,
        "captions": captions,
        "batch": batch,
        "images": len(samples),
        "generators": list(generators),
        "step_s": step_s,
        "image_s": image_s,
        "streaming": streaming,
        "offline": offline,
        "compared": compare(streaming, offline),
    }


def _config(steps: int, captions: int, batch: int) -> RunConfig:
    every = max(1, steps // POINTS)
    return load_config(
        None,
        {
            "captions.source": "grammar",
            "captions.target": str(captions),
            "captions.batch": "8",
            "captions.backlog": "32",
            "generators.batch": "4",
            "generators.backend": "eager",
            "ring.slots": str(4 * captions),
            "ring.min_fill": str(batch),
            "train.batch": str(batch),
            "train.steps": str(steps),
            "train.warmup": str(min(50, steps // 10)),
            "train.checkpoint_every": str(every),
            "train.checkpoint_images": "false",
            "train.keep_checkpoints": str(2 * POINTS),
            "evaluate.every": "0",
        },
    )


def expected_pairs(config: RunConfig) -> int:
    """Captions that are written with a hard negative, about: what the production mix of the whole run asks for."""
    curriculum, steps = curriculum_of(config), config.train.steps
    shares = [curriculum.production_share(step, 0.0) for step in np.linspace(0, steps - 1, 101).astype(int).tolist()]
    return round(config.captions.target * float(np.mean(shares)))


def _step_seconds(config: RunConfig, folder: Path, say: Callable[[str], None]) -> float:
    """Median seconds from step to step of the real trainer in a short run with renderers that take no time."""
    timed = TIMED_STEPS if config.train.steps >= TIMED_STEPS else config.train.steps
    train = config.train.model_copy(update={"steps": timed, "checkpoint_every": timed, "warmup": 0})
    captions = config.captions.model_copy(update={"target": 2 * config.train.batch})
    short = config.model_copy(update={"train": train, "captions": captions})
    _run(short, Latency(dict.fromkeys(config.generators.names, 0.0)), folder)
    times = [line["time"] for line in read_jsonl(RunFolder(folder).metrics)]
    return median(later - earlier for earlier, later in pairwise(times[timed // 4 :]))


def _run(config: RunConfig, latency: Latency, folder: Path) -> None:
    plan = latency_stub_plan(config, replace(latency, painted=True))
    plan = ProcessPlan(tuple(process for process in plan.processes if process.role != "evaluator"), plan.ring)
    code = supervise(config, folder, plan, fill=replace(latency, painted=True).write)
    if code:
        raise PolygenError(f"the run in {folder} ended with exit code {code}; its logs say why")


def _stream(config: RunConfig, latency: Latency, step_s: float, folder: Path) -> dict[str, Any]:
    """step_s: of a trainer that never waits, by which utilisation is measured."""
    _run(config, latency, folder)
    lines = list(read_jsonl(RunFolder(folder).metrics))
    summary = read_json(RunFolder(folder).summary)
    start = summary["seconds_to_first_step"] - lines[0]["time"]
    steps_ended = [start + line["time"] for line in lines]
    scores = {
        step: _accuracy(*load_clip(checkpoint)) for step, checkpoint in list_checkpoints(folder) if checkpoint.is_dir()
    }
    curve = [[0.0, scores.pop(0)], *([steps_ended[step - 1], score] for step, score in sorted(scores.items()))]
    worked = sum(line["step_s"] for line in lines)
    waited = sum(line["wait_s"] for line in lines[1:])
    span = steps_ended[-1] - steps_ended[0]
    idle = summary["waiting"]["producer_limiter_share"]
    return {
        "first_step_s": steps_ended[0],
        "seconds": steps_ended[-1],
        "curve": curve,
        "accuracy": curve[-1][1],
        "waiting": waited / (waited + worked),
        "utilisation": (len(lines) - 1) / span * step_s,
        "busy": {name: 1 - share for name, share in idle.items() if share is not None},
        "picture_bytes": _stored_pictures(folder),
        "unused_negatives": _unused_negatives(folder),
        "images": summary["images_total"],
    }


def _offline(
    config: RunConfig, latency: Latency, samples: list[ShardSample], folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    devices = len(config.generators.names) + 1
    share = (devices - 1) / devices
    faster = Latency({name: share * seconds for name, seconds in latency.image_s.items()})
    say(f"offline: rendering {len(samples)} pictures")
    render_s = render_all(config, samples, faster, folder)
    say("offline: training")
    ended, weights = train_from_shards(config, folder, config.train.checkpoint_every)
    at = [render_s + seconds / devices for seconds in ended]
    model, tokenizer = create_clip(config.train.model)
    curve = []
    for step, state in weights.items():
        load_model_state(model, state, folder)
        curve.append([at[step - 1] if step else 0.0, _accuracy(model.eval(), tokenizer)])
    return {
        "first_step_s": at[0],
        "seconds": at[-1],
        "render_s": render_s,
        "train_s": ended[-1],
        "curve": curve,
        "accuracy": curve[-1][1],
        "picture_bytes": sum(file.stat().st_size for file in folder.glob("*.tar")),
    }


def _accuracy(model: Any, tokenizer: Any) -> float:
    """Zero-shot classification of painted things, in combinations that no training caption names."""
    encoder, test = Encoder(model, tokenizer, "cpu"), _test_set()
    found = ranks(encoder.images(test.images), encoder.classes(thing_prompts()), torch.from_numpy(test.things))
    return float((found == 1).float().mean())


@lru_cache(maxsize=1)
def _test_set() -> Classification:
    return classification(Split.UNSEEN, IMAGES_PER_THING)


def compare(streaming: Mapping[str, Any], offline: Mapping[str, Any]) -> dict[str, float]:
    """Return what streaming gains or loses, by key.

    Accuracy is interpolated between checkpoints, and stays at the last one's after the end.
    """
    horizon = max(streaming["seconds"], offline["seconds"])
    grid = np.linspace(0.0, horizon, 2001)
    ours, theirs = (np.interp(grid, *np.array(side["curve"]).T) for side in (streaming, offline))
    reached = grid[ours >= offline["accuracy"]]
    return {
        "first_step_sooner": offline["first_step_s"] / streaming["first_step_s"],
        "seconds_ratio": streaming["seconds"] / offline["seconds"],
        "area_ratio": float(np.trapezoid(ours, grid) / np.trapezoid(theirs, grid)),
        "largest_lead_of_offline": float(max(0.0, (theirs - ours).max())),
        "offline_accuracy_reached_ratio": float(reached[0] / offline["seconds"]) if reached.size else float("inf"),
    }


def _stored_pictures(folder: Path) -> int:
    """Bytes of pictures in the files of a run."""
    total = 0
    for file in folder.rglob("ring.safetensors"):
        with safe_open(file, "np") as tensors:
            if "pictures" in set(tensors.keys()):
                total += tensors.get_tensor("pictures").nbytes
    return total + sum(file.stat().st_size for kind in ("*.tar", "*.png", "*.jpg") for file in folder.rglob(kind))


def _unused_negatives(folder: Path) -> float:
    """Share of the captions with a hard negative whose negative no step drew."""
    written = {entry.task.task_id for entry in read_journal(RunFolder(folder).journal) if entry.pair}
    drawn = {
        task
        for record in read_draw_log(RunFolder(folder).draw_log)
        for task, kind in zip(record.task_ids, record.kinds, strict=True)
        if kind is not Kind.PLAIN
    }
    return len(written - drawn) / max(1, len(written))
