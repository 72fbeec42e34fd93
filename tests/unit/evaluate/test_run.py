"""Which checkpoint the evaluator scores next."""

from __future__ import annotations

from pathlib import Path

import torch

from polygen_stream.config import RunConfig, TrainConfig
from polygen_stream.evaluate.run import next_checkpoint, training_is_over
from polygen_stream.train.checkpoint import save_checkpoint
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer

CONFIG = RunConfig(train=TrainConfig(keep_checkpoints=2))


def save(run_dir: Path, step: int, final: bool = False) -> None:
    torch.manual_seed(0)
    model, _ = create_clip("micro")
    save_checkpoint(
        run_dir,
        step=step,
        final=final,
        config=CONFIG,
        model=model,
        optimizer=build_optimizer(model, CONFIG.train),
        curriculum={},
        data={},
    )


def test_the_untrained_model_comes_first_and_then_the_newest_that_is_due(tmp_path: Path) -> None:
    for step in (0, 10, 20, 30):
        save(tmp_path, step)
    done: set[tuple[int, bool]] = set()
    order = []
    while found := next_checkpoint(tmp_path, done, every=20):
        order.append(found[:2])
        done.add(found[:2])
    assert order == [(0, False), (20, False)]  # 10 was retired (two are kept), 30 is not due


def test_a_step_that_becomes_final_after_it_was_scored_is_scored_again(tmp_path: Path) -> None:
    save(tmp_path, 20)
    assert next_checkpoint(tmp_path, {(20, False)}, every=20) is None
    save(tmp_path, 20, final=True)
    assert next_checkpoint(tmp_path, {(20, False)}, every=20)[:2] == (20, True)
    assert next_checkpoint(tmp_path, {(20, False), (20, True)}, every=20) is None


def test_training_is_over_with_the_final_checkpoint(tmp_path: Path) -> None:
    """From then on the evaluator leaves the cores to nobody."""
    assert not training_is_over(tmp_path)
    save(tmp_path, 0)
    assert not training_is_over(tmp_path)
    save(tmp_path, 20, final=True)
    assert training_is_over(tmp_path)
