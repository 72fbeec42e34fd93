"""The trainer as a process of its own, on a real ring that this test fills with coloured squares."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.checkpoints import list_checkpoints, read_meta
from polygen_stream.config import (
    CaptionsConfig,
    CurriculumConfig,
    EvaluateConfig,
    GeneratorsConfig,
    RingConfig,
    RunConfig,
    TrainConfig,
    dump_config,
)
from polygen_stream.ring import Kind, Member, Ring, RingSpec
from polygen_stream.train.augment import preprocess
from polygen_stream.train.checkpoint import load_checkpoint
from polygen_stream.train.model import load_clip

COLOURS = {"red": (210, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 210), "yellow": (220, 210, 50)}
PLACES = {"top left": (2, 2), "top right": (2, 18), "bottom left": (18, 2), "bottom right": (18, 18)}
BACKGROUNDS = {"black": 20, "grey": 120, "white": 235}
CAPTIONS = list(product(COLOURS, PLACES, BACKGROUNDS))  # 48
POSITIVES = 2


def caption(colour: str, place: str, background: str) -> str:
    return f"a {colour} square at the {place} on a {background} background"


def square(text: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 [32, 32, 3], what `caption` says, jittered."""
    colour = next(c for c in COLOURS if f"a {c} " in text)
    place = next(p for p in PLACES if f"the {p} " in text)
    background = next(b for b in BACKGROUNDS if f"a {b} " in text)
    image = np.full((32, 32, 3), BACKGROUNDS[background], np.float64)
    y, x = PLACES[place] + rng.integers(-1, 2, 2)
    image[y : y + 12, x : x + 12] = COLOURS[colour]
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


class Producer(threading.Thread):
    """Opens a group per caption, every second one with a hard negative (another colour), and renders them."""

    def __init__(self, ring: Ring) -> None:
        super().__init__(daemon=True)
        self.ring = ring

    def run(self) -> None:
        rng = np.random.default_rng(0)
        generators = range(len(self.ring.spec.generators))
        for task, (colour, place, background) in enumerate(CAPTIONS):
            kind = Kind.PAIR if task % 2 else Kind.PLAIN
            other = next(c for c in COLOURS if c != colour)
            polarities = (0, 1) if kind is Kind.PAIR else (0,)
            members = [
                Member((task + k) % len(generators), polarity, seed=k)
                for polarity in polarities
                for k in range(POSITIVES)
            ]
            negative = caption(other, place, background) if kind is Kind.PAIR else None
            text = caption(colour, place, background)
            self.ring.open_group(task, kind, text, negative, members, timeout_s=60)
            for generator in generators:
                if claims := self.ring.claim([generator], limit=8):
                    self.ring.commit(claims, np.stack([square(c.caption, rng) for c in claims]))
        self.ring.finish_opening()


def config_for(**train) -> RunConfig:
    return RunConfig(
        captions=CaptionsConfig(target=len(CAPTIONS)),
        generators=GeneratorsConfig(positives=POSITIVES, negatives=POSITIVES),
        ring=RingConfig(slots=512, min_fill=16, draw_timeout_s=60),
        curriculum=CurriculumConfig(schedule="constant", end=0.25),
        evaluate=EvaluateConfig(every=0),
        train=TrainConfig(**({"batch": 16, "warmup": 5, "keep_checkpoints": 2} | train)),
    )


@pytest.fixture
def ring():
    spec = RingSpec(
        slots=512,
        image_shape=(32, 32, 3),
        groups=64,
        members=2 * POSITIVES,
        caption_bytes=192,
        generators=RunConfig().generators.recipes,
        seed=0,
        min_fill=16,
    )
    ring = Ring.create(spec)
    ring.register("producer", "test-producer")
    yield ring
    ring.close()


class Trainer:
    """The trainer process. `without` names modules its interpreter cannot import."""

    def __init__(self, ring: Ring, run_dir: Path, config: RunConfig, without: tuple[str, ...] = ()) -> None:
        dump_config(config, run_dir / "config.toml")
        self.run_dir = run_dir
        start = (
            f"import sys; sys.modules.update(dict.fromkeys({list(without)!r}));"
            " import runpy; runpy.run_module('polygen_stream.train.run', run_name='__main__', alter_sys=True)"
        )
        arguments = ["--run-dir", str(run_dir), "--ring-fd", str(ring.fd), "--name", "trainer"]
        self.log = run_dir / "trainer.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", start, *arguments],
                pass_fds=[ring.fd],
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def wait(self, timeout_s: float = 240) -> int:
        return self.process.wait(timeout_s)

    def metrics(self) -> list[dict]:
        return list(read_jsonl(self.run_dir / "metrics.jsonl"))

    def wait_until(self, condition, timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no progress; {self.log.read_text()}"
            time.sleep(0.05)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def start(ring, tmp_path):
    started = []

    def start(config: RunConfig, **options) -> Trainer:
        started.append(Trainer(ring, tmp_path, config, **options))
        return started[-1]

    yield start
    for trainer in started:
        trainer.kill()


def test_trains_from_the_ring_alone(ring, start):
    producer = Producer(ring)
    producer.start()
    config = config_for(steps=60, checkpoint_every=20, lr=2e-3)
    # Without the micro world: what CLIP learns here, it learns from the ring.
    trainer = start(config, without=("polygen_stream.micro", "polygen_stream.micro.painter"))
    assert trainer.wait() == 0, trainer.log.read_text()

    lines = trainer.metrics()
    assert [line["step"] for line in lines] == list(range(60))
    assert {
        *("step", "time", "loss", "loss_parts", "lr", "p", "p_realised", "logit_scale", "wait_s", "step_s"),
        *("images_committed", "groups_complete", "mean_reuse", "texts", "images"),
    } <= lines[0].keys()
    first, last = (np.mean([line["loss"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert last < 0.6 * first
    assert all((line["p"], line["p_realised"]) == (0.25, 0.25) for line in lines)
    assert all((line["texts"], line["images"]) == (16, 16 * POSITIVES) for line in lines)
    assert lines[-1]["images_committed"] == 24 * POSITIVES + 24 * 2 * POSITIVES
    assert lines[-1]["mean_reuse"] > 10
    assert ring.step == 60
    measured = {line["step"]: line["feedback"] for line in lines if "feedback" in line}
    assert list(measured) == [0, 10, 20, 30, 40, 50]
    generators = [measured[step]["generators"] for step in (0, 50)]
    assert set(generators[1]) == set(ring.spec.generators), "its groups have no axes"
    for name in ring.spec.generators:
        before, after = (of_step[name] for of_step in generators)
        assert after["loss"] < before["loss"] and after["correct"] > before["correct"]
        assert after["margin"] > max(0.0, before["margin"]) and after["weight"] == 1
    assert ring.read_feedback().step == 59

    draws = list(read_jsonl(trainer.run_dir / "draw_log.jsonl"))
    assert [draw["step"] for draw in draws] == list(range(60))
    assert all((len(draw["plain"]), len(draw["pair"])) == (8, 4) for draw in draws)
    assert all(len(set(draw["plain"] + draw["pair"])) == 12 for draw in draws)
    assert any((trainer.run_dir / "tensorboard").iterdir())

    assert [step for step, _ in list_checkpoints(trainer.run_dir)] == [0, 40, 60]
    final = load_checkpoint(trainer.run_dir / "checkpoints" / "step_000060")
    assert final.meta["final"] and final.training["data"]["step"] == 60
    assert not read_meta(trainer.run_dir / "checkpoints" / "step_000040")["final"]
    accuracy = {step: colour_accuracy(folder) for step, folder in list_checkpoints(trainer.run_dir)}
    assert accuracy[60] > 0.8 > accuracy[0]


def test_averaged_weights_follow_the_live_ones_and_are_what_evaluation_loads(ring, start):
    Producer(ring).start()
    trainer = start(
        config_for(steps=3, checkpoint_every=1, keep_checkpoints=4, ema_decay=0.75, downsample_probability=0.5)
    )
    assert trainer.wait() == 0, trainer.log.read_text()
    folders = dict(list_checkpoints(trainer.run_dir))
    live = [load_checkpoint(folders[step]).model["text_projection"] for step in (1, 2, 3)]
    expected = 0.75 * (0.75 * live[0] + 0.25 * live[1]) + 0.25 * live[2]  # the average starts with the first step
    torch.testing.assert_close(load_clip(folders[3])[0].text_projection.detach(), expected)
    assert not torch.equal(live[2], expected)


def test_what_batches_leave_behind_is_counted_and_checkpointed(ring, start):
    Producer(ring).start()
    config = config_for(steps=6)
    curriculum = CurriculumConfig(schedule="constant", end=0.25, leftover_age=50)
    trainer = start(config.model_copy(update={"curriculum": curriculum}))
    assert trainer.wait() == 0, trainer.log.read_text()
    lanes = trainer.metrics()[-1]["leftover"]
    assert lanes["displaced"]["trained"] > 0
    for counts in lanes.values():
        entered = counts.pop("entered")
        assert entered == sum(counts.values())
    state = load_checkpoint(trainer.run_dir / "checkpoints" / "step_000006").training["data"]["leftover"]
    waiting = {tuple(group[:2]) for lane in state["waiting"].values() for group in lane}
    assert waiting == set(ring.pinned())


def colour_accuracy(folder: Path) -> float:
    """Share of fresh squares whose own caption beats the three that name another colour."""
    model, tokenizer = load_clip(folder)
    rng = np.random.default_rng(1)
    hits = []
    for colour, place, background in CAPTIONS:
        texts = [caption(c, place, background) for c in COLOURS]
        image = torch.from_numpy(square(caption(colour, place, background), rng))[None]
        with torch.no_grad():
            images = model.encode_image(preprocess(image, 32), normalize=True)
            best = (images @ model.encode_text(tokenizer(texts), normalize=True).T).argmax().item()
        hits.append(list(COLOURS)[best] == colour)
    return float(np.mean(hits))


def test_sigterm_saves_a_final_checkpoint_at_the_step_reached(ring, start):
    Producer(ring).start()
    trainer = start(config_for(steps=100_000, checkpoint_every=100_000))
    trainer.wait_until(lambda: len(trainer.metrics()) >= 5)
    trainer.process.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0, trainer.log.read_text()
    (untrained, _), (step, folder) = list_checkpoints(trainer.run_dir)
    assert untrained == 0 and step == len(trainer.metrics()) >= 5
    assert load_checkpoint(folder).meta["final"] is True
    assert not list((trainer.run_dir / "checkpoints").glob(".*"))


def test_sigterm_during_a_wait_for_the_first_batch_ends_at_once(ring, start):
    trainer = start(config_for(steps=100))

    def is_waiting() -> bool:
        return any("waiting to draw" in str(row["doing"]) for row in ring.stats().processes)

    trainer.wait_until(is_waiting)
    trainer.process.send_signal(signal.SIGTERM)
    assert trainer.wait(30) == 0, trainer.log.read_text()
    ((step, folder),) = list_checkpoints(trainer.run_dir)
    assert step == 0 and json.loads((folder / "meta.json").read_text())["final"] is True


def test_starved_trainer_fails_with_one_line_that_names_the_lack(ring, start):
    config = config_for(steps=100)
    config = config.model_copy(update={"ring": config.ring.model_copy(update={"draw_timeout_s": 0.5})})
    trainer = start(config)
    assert trainer.wait() == 1
    last = trainer.log.read_text().splitlines()[-1]
    assert last.startswith("error: ") and "step 0" in last
