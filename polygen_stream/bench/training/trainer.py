"""`polygen-stream bench trainer`: a step of our trainer beside a step of open_clip's own training loop.

All loops live in one process and take turns step by step, in a random order, so that whatever else the machine does
hits them alike. Each runs in a thread of its own that stands still wherever its loop asks for the next batch; a step is
the time from there to there, on the whole loop's account: ours is that of a run's trainer, drawing from a ring,
cropping, writing metrics; open_clip's is `open_clip_train.train.train_one_epoch`.

    open_clip            as `open_clip_train.main` sets it up: NCHW, AdamW and attention as torch has them
    open_clip, our way   the same loop with what our trainer chooses beside the loop: channels last, fused AdamW, and on
                         a CPU plain attention
    ..., from pixels     and with our trainer's work in it: its batches are made of uint8 pictures and captions in
                         memory, by open_clip's transform for training and its tokenizer
    ours, no feedback    our loop once more, without what it measures of each image for the ring's feedback board

The batches of the first two lie ready, as normalised floats and tokens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from open_clip import image_transform
from open_clip.loss import ClipLoss
from open_clip_train.params import parse_args
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch
from PIL import Image
from scipy import stats
from torchdata.nodes import BaseNode

from polygen_stream.assets.model_configs import model_name
from polygen_stream.bench.harness.workload import CAPTION_BYTES, caption_of
from polygen_stream.capacity.measured_rates import MeasuredRates, TrainerRate
from polygen_stream.config import CurriculumConfig, GeneratorsConfig, RingConfig, RunConfig, TrainConfig
from polygen_stream.ring import FEEDBACK_NAMES, GroupRequest, Kind, Member, Ring, RingSpec
from polygen_stream.roles.role import RoleContext
from polygen_stream.train import run as trainer
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.device import training_device
from polygen_stream.train.model import create_clip, image_size
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.precision import autocast_dtype
from polygen_stream.train.prefetch import Prefetcher
from polygen_stream.train.trainer import build_trainer

WARM_UP = 10  # pairs that are not counted
AXES = 14
BATCHES = 8  # different ones that open_clip's loop goes round
OURS, STOCK = "ours", "open_clip"
NO_FEEDBACK = "ours, no feedback"
OUR_WAY, FROM_PIXELS = "open_clip, our way", "open_clip, our way, from pixels"


def bench_trainer(
    model: str, batch: int, pairs: int, threads: int, device: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Milliseconds of a step of every loop, and ours over each of the others, paired: {"median", "low", "high"}.

    "rates" has images per second of ours (see capacity/measured_rates.py).

    One image per caption and no hard negatives, in which our loss is open_clip's. low and high bound the median of the
    paired ratios by the bootstrap, at 95 %.

    Raises:
        UserError: open_clip has no such model, or there is no such device.
    """
    torch.set_num_threads(threads)
    config = trainer_config(model, batch, WARM_UP + pairs, device)
    where = training_device(device)
    with TemporaryDirectory() as folder, TemporaryDirectory() as other:
        loops = [
            Loop(OURS, lambda turn: our_loop(config, Path(folder), turn), plain_attention=where.type == "cpu"),
            Loop(
                NO_FEEDBACK,
                lambda turn: our_loop(config, Path(other), turn, feedback=False),
                plain_attention=where.type == "cpu",
            ),
            Loop(STOCK, lambda turn: _open_clip(config, where, turn, STOCK), plain_attention=False),
            Loop(OUR_WAY, lambda turn: _open_clip(config, where, turn, OUR_WAY), plain_attention=where.type == "cpu"),
            Loop(
                FROM_PIXELS,
                lambda turn: _open_clip(config, where, turn, FROM_PIXELS),
                plain_attention=where.type == "cpu",
            ),
        ]
        seconds: dict[str, list[float]] = {loop.name: [] for loop in loops}
        for loop in loops:
            say(f"starting {loop.name}")
            loop.start()
        order = np.random.default_rng(0)
        for pair in range(WARM_UP + pairs):
            # A loop is faster after one whose code it shares, so that no order may be the same every time.
            for number in order.permutation(len(loops)):
                seconds[loops[number].name].append(loops[number].step())
            if (pair + 1) % 50 == 0:
                say(f"{pair + 1} of {WARM_UP + pairs} pairs")
        for loop in loops:
            loop.finish()
    measured = {name: np.array(of_loop[WARM_UP:]) for name, of_loop in seconds.items()}
    loops_beside = [name for name in measured if name != OURS]
    ours = TrainerRate(images_per_s=batch / float(np.median(measured[OURS])))
    return {
        "model": model_name(model),
        "batch": batch,
        "pairs": pairs,
        "threads": threads,
        "device": str(where),
        "autocast": str(autocast_dtype(config.train.precision, where)),
        "step_ms": {name: round(1e3 * float(np.median(of_loop)), 2) for name, of_loop in measured.items()},
        "ratio": {name: median_ratio(measured[OURS], measured[name]) for name in loops_beside},
        **MeasuredRates(trainer={model_name(model): ours}).as_json(),
    }


def median_ratio(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Median of ours / theirs, paired, with its 95 % bootstrap interval (percentiles, 10,000 resamples)."""
    ratios = ours / theirs
    interval = stats.bootstrap((ratios,), np.median, n_resamples=9_999, method="percentile", rng=0).confidence_interval
    return {"median": float(np.median(ratios)), "low": float(interval.low), "high": float(interval.high)}


class Loop:
    """A training loop that takes one step per call of `step`.

    Args:
        body: runs the whole loop, and calls what it is given wherever the loop asks for its next batch.
        plain_attention: what the process's switch is to be during its steps.
    """

    def __init__(self, name: str, body: Callable[[Callable[[], None]], None], *, plain_attention: bool) -> None:
        self.name = name
        self._body, self._plain_attention = body, plain_attention
        self._go, self._asked = threading.Semaphore(0), threading.Semaphore(0)
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Until it asks for its first batch."""
        self._thread.start()
        self._asked.acquire()
        self._check()

    def step(self) -> float:
        """Seconds from handing over a batch until the next one is asked for, or the loop has ended."""
        torch.backends.cuda.enable_flash_sdp(not self._plain_attention)
        began = time.perf_counter()
        self._go.release()
        self._asked.acquire()
        seconds = time.perf_counter() - began
        self._check()
        return seconds

    def finish(self) -> None:
        """Let the loop end, and wait for it."""
        self._go.release()
        self._thread.join()
        self._check()

    def _turn(self) -> None:
        self._asked.release()
        self._go.acquire()

    def _run(self) -> None:
        try:
            self._body(self._turn)
        except BaseException as problem:
            self._problem = problem
        self._asked.release()

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem


class _BatchesInTurns(BaseNode[TrainBatch]):
    """A trainer's batches, with a call of `turn` wherever it asks for one, which by then has mostly been prefetched."""

    def __init__(self, batches: Prefetcher, turn: Callable[[], None], feedback: bool) -> None:
        super().__init__()
        self._batches, self._turn, self._feedback = batches, turn, feedback
        self.close = batches.close

    def next(self) -> TrainBatch:
        self._turn()
        batch = next(self._batches)
        return batch if self._feedback else replace(batch, feedback_rows=None)

    def get_state(self) -> dict[str, Any]:
        return self._batches.state_dict()


def trainer_config(model: str, batch: int, steps: int, device: str) -> RunConfig:
    """A run of one image per caption and no hard negatives, whose ring holds 16 batches."""
    return RunConfig(
        generators=GeneratorsConfig(recipes=("micro/sd15",), positives=1, negatives=0),
        ring=RingConfig(slots=16 * batch, min_fill=batch),
        curriculum=CurriculumConfig(schedule="constant", start=0.0, end=0.0),
        train=TrainConfig(model=model, batch=batch, steps=steps, device=device, checkpoint_every=steps),
    )


def our_loop(config: RunConfig, folder: Path, turn: Callable[[], None], feedback: bool = True) -> None:
    """A run's trainer in `folder` on a full ring of its own; calls `turn` where it asks for a batch.

    feedback: whether its batches say which rows of the feedback board their images belong to.
    """
    size = image_size(create_clip(config.train.model)[0])
    ring = Ring.create(
        RingSpec(
            slots=config.ring.slots,
            image_shape=(size, size, 3),
            groups=config.ring.slots,
            members=1,
            caption_bytes=CAPTION_BYTES,
            generators=config.generators.names,
            seed=config.seed,
            min_fill=config.ring.min_fill,
        )
    )
    try:
        ring.register("trainer", "trainer")
        ring.name_feedback_rows([f"axis {i}" for i in range(AXES)], [f"concept {i}" for i in range(FEEDBACK_NAMES)])
        rng, batch = np.random.default_rng(config.seed), config.train.batch
        for first in range(0, config.ring.slots, batch):
            tasks = range(first, first + batch)
            ring.open_groups(
                [
                    GroupRequest(
                        task,
                        Kind.PLAIN,
                        caption_of(task),
                        None,
                        [Member(0, 0, task)],
                        axis=task % AXES,
                        concept=task % FEEDBACK_NAMES,
                    )
                    for task in tasks
                ],
                timeout_s=60.0,
            )
            ring.commit(ring.claim([0], batch), rng.integers(0, 256, (batch, size, size, 3), np.uint8))
        ring.finish_opening()
        start_time = time.monotonic()
        built = build_trainer(RoleContext(config, folder, ring, "trainer", None))
        trainer.train(replace(built, reader=_BatchesInTurns(built.reader, turn, feedback)), start_time)
    finally:
        ring.close()


@dataclass
class _Batches:
    """What open_clip's loop takes for its DataLoader."""

    make: Callable[[int], tuple[torch.Tensor, torch.Tensor]]  # float [B, 3, S, S] and int64 [B, context length]
    num_batches: int
    num_samples: int
    turn: Callable[[], None]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number in range(self.num_batches):
            self.turn()
            yield self.make(number % BATCHES)
        self.turn()


def _open_clip(config: RunConfig, device: torch.device, turn: Callable[[], None], name: str) -> None:
    train = config.train
    precision = "fp32" if autocast_dtype(train.precision, device) is None else "amp_bf16"
    words = ["--model", train.model, "--batch-size", str(train.batch), "--lr", str(train.lr), "--wd",
             str(train.weight_decay), "--beta1", str(train.beta1), "--beta2", str(train.beta2), "--eps",
             str(train.eps), "--warmup", str(train.warmup), "--grad-clip-norm", str(train.grad_clip), "--precision",
             precision, "--device", str(device)]  # fmt: skip
    args = parse_args(words)
    args.rank, args.world_size, args.distill, args.wandb = 0, 1, False, False  # set by open_clip_train.main
    model, tokenizer = create_clip(train.model, device)
    model.output_dict = True
    if name == STOCK:
        model.to(memory_format=torch.contiguous_format)
    optimizer = build_optimizer(model, train)
    if name == STOCK:  # the same two groups, as open_clip_train.main hands them over
        groups = [{key: group[key] for key in ("params", "weight_decay")} for group in optimizer.param_groups]
        optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(args.beta1, args.beta2), eps=args.eps)
    size, rng = image_size(model), np.random.default_rng(config.seed)
    captions = [[caption_of(number * train.batch + row) for row in range(train.batch)] for number in range(BATCHES)]
    if name == FROM_PIXELS:
        transform: Callable[[Image.Image], torch.Tensor] = cast(Any, image_transform(size, is_train=True))
        pixels = rng.integers(0, 256, (BATCHES, train.batch, size, size, 3), np.uint8)

        def make(number: int) -> tuple[torch.Tensor, torch.Tensor]:
            images = torch.stack([transform(Image.fromarray(picture)) for picture in pixels[number]])
            return images, tokenizer(captions[number])
    else:
        floats = rng.standard_normal((BATCHES, train.batch, 3, size, size), np.float32)
        made = [(torch.from_numpy(images), tokenizer(texts)) for images, texts in zip(floats, captions, strict=True)]

        def make(number: int) -> tuple[torch.Tensor, torch.Tensor]:
            return made[number]

    batches = _Batches(make, train.steps, train.steps * train.batch, turn)
    data = SimpleNamespace(dataloader=batches, set_epoch=lambda epoch: None)
    scheduler = cosine_lr(optimizer, args.lr, args.warmup, train.steps)
    loss = ClipLoss(cache_labels=True)
    train_one_epoch(model, {"train": data}, loss, 0, optimizer, None, scheduler, None, args)
