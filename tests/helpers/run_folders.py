"""A run folder with everything a report reads, made in a second: painted pictures instead of rendered ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from polygen_stream.analyze.image_set import ImageSet
from polygen_stream.analyze.measure import measure
from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import CaptionJournal, JournalEntry
from polygen_stream.config import RunConfig, dump_config, load_config
from polygen_stream.evaluate.micro_suite import chance
from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import Style, write_pair
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Split
from polygen_stream.report import gallery
from polygen_stream.report.samples import CaptionSample
from polygen_stream.schedule.ledger import Ledger
from polygen_stream.train.checkpoint import save_checkpoint
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer

STEPS = 60
TRAP = "<script>alert('a caption')</script>"  # language models write captions
ENGLISH = {"captions.source": "my:source", "captions.bank": "english"}
TASK = "zero_shot:/data/pets"


def make_run(folder: Path, seed: int = 0, score: float = 0.6) -> Path:
    """A completed run of STEPS steps whose trained model has `score` everywhere."""
    folder.mkdir(parents=True)
    config = RunConfig(seed=seed, train={"steps": STEPS})
    dump_config(config, folder / "config.toml")
    rng = np.random.default_rng(seed)
    write_lines(folder / "metrics.jsonl", (metrics(step, rng) for step in range(STEPS)))
    write_lines(folder / "eval.jsonl", [evaluation(0, 0.1), evaluation(STEPS, score)])
    (folder / "provenance.json").write_text(json.dumps({"git": {"commit": "0123456789abcdef"}}))
    (folder / "summary.json").write_text(json.dumps({"status": "completed", "seconds": 61.0}))
    names = tuple(config.generators.recipes)
    samples, entries = [], []
    ledger = Ledger(seed, world.THINGS, list(edits.EDITS), len(names), 2)
    for i in range(24):
        scene, other = edits.applicable_scene(list(edits.EDITS)[i % len(edits.EDITS)], Split.SEEN, rng)
        caption, negative = write_pair(scene, other, Style.sample(rng))
        halves = [[(g, paint(s, rng)) for g in (i % 4, (i + 1) % 4)] for s in (scene, other)]
        samples.append(CaptionSample(TRAP if i == 0 else caption, negative, halves[0], halves[1] if i % 2 == 0 else []))
        task = ledger.task(i)
        written = Caption(caption, negative, rejected=("negative: unchanged",) * (i % 2))
        entries.append(JournalEntry(replace(task, concept=scene.things[0].noun), True, written))
    journal = CaptionJournal(folder / "journal.jsonl")
    journal.write(entries)
    journal.close()
    gallery.save(gallery.Gallery(tuple(samples), names), folder / "gallery.safetensors")
    model, _ = create_clip("micro")
    for step in (0, STEPS):
        torch.manual_seed(seed + step)
        model, _ = create_clip("micro")
        save_checkpoint(folder, step=step, final=step > 0, config=config, model=model,
                        optimizer=build_optimizer(model, config.train), curriculum={}, data={})  # fmt: skip
    painted = painted_set(names, rng)
    analysis = {"about": "painted pictures", "classes": "caption", **measure(painted, painted.caption, folder)}
    (folder / "analysis.json").write_text(json.dumps(analysis))
    return folder


def in_another_world(folder: Path, seed: int, acc1: float | None) -> Path:
    """A run whose captions are not of the micro world, scored on one task or none."""
    make_run(folder, seed)
    dump_config(load_config(None, ENGLISH | ({} if acc1 is None else {"evaluate.tasks": TASK})), folder / "config.toml")
    lines = []
    for step, score in ((0, 0.02), (STEPS, acc1)):
        if score is not None and acc1 is not None:
            scores = {"score": score, "low": score - 0.02, "high": score + 0.02, "n": 500, "chance": 0.027}
            lines.append({"step": step, "final": step > 0, "metrics": {}, "intervals": {}, "chance": {},
                          "tasks": {TASK: {"acc1": scores}}, "failed": {}})  # fmt: skip
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def painted_set(names: tuple[str, ...], rng: np.random.Generator) -> ImageSet:
    """Twelve captions, three pictures of each by every generator."""
    images, generator, caption, texts = [], [], [], []
    for c in range(12):
        scene = world.sample_single(rng, Split.SEEN, world.THINGS[c])
        texts.append(f"a {scene.things[0].noun}")
        for g in range(len(names)):
            images += [paint(scene, rng) for _ in range(3)]
            generator += [g] * 3
            caption += [c] * 3
    return ImageSet(np.stack(images), np.array(generator), np.array(caption), names, tuple(texts), tuple(texts))


def metrics(step: int, rng: np.random.Generator) -> dict:
    lane = {"entered": step, "trained": step // 2, "waiting": step - step // 2, "dropped_full": 0}
    return {
        "step": step, "time": 1.0 + step, "loss": 5 - step / 20 + 0.1 * rng.random(), "p": step / STEPS / 2,
        "loss_parts": {"i2t": 2.0, "t2i": 2.5}, "lr": 1e-3, "p_realised": step / STEPS / 2, "logit_scale": 14.3,
        "grad_norm": 1.0, "wait_s": 0.1, "step_s": 0.9, "images_committed": 100 + 4 * step, "texts": 128,
        "groups_complete": 50 + 2 * step, "mean_reuse": step / 4, "images": 256,
        "leftover": {"displaced": lane, "unadmitted": lane, "ragged": lane},
    }  # fmt: skip


def evaluation(step: int, score: float) -> dict:
    keys = [key for key in chance() if not key.endswith("_by_edit")]
    by_edit = {edit: score + 0.01 * i for i, edit in enumerate(edits.EDITS)}
    names = [key for key in chance() if key.endswith("_by_edit")]
    values = {**dict.fromkeys(keys, score), **dict.fromkeys(names, by_edit)}
    limits = {
        **{key: [score - 0.05, score + 0.05] for key in keys},
        **{key: {edit: [v - 0.1, v + 0.1] for edit, v in by_edit.items()} for key in names},
    }
    return {"step": step, "final": step == STEPS, "metrics": {**values, "seen": values},
            "intervals": {**limits, "seen": limits}, "chance": chance()}  # fmt: skip


def write_lines(file: Path, lines) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
