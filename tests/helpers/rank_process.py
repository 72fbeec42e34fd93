"""One rank of a trainer as a test's child process, forked from a server that has the imports behind it."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path

import open_clip
import torch.utils.tensorboard  # noqa: F401  # imported once for all ranks instead of by every first one

from polygen_stream.roles.role import run_role
from polygen_stream.train.run import main

VIT = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}

PROCESSES = multiprocessing.get_context("forkserver")


def start_rank(ring_fd: int, run_dir: Path, log: Path, place: dict[str, str]) -> multiprocessing.Process:
    """The trainer's process with these environment variables; knows the model "tiny-vit"."""
    PROCESSES.set_forkserver_preload([__name__])
    process = PROCESSES.Process(target=_rank, args=(DupFd(ring_fd), run_dir, log, place))
    process.start()
    return process


def _rank(ring: DupFd, run_dir: Path, log: Path, place: dict[str, str]) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.environ.update(place)
    models = run_dir / f"tiny-vit-{os.getpid()}"
    models.mkdir()
    (models / "tiny-vit.json").write_text(json.dumps(VIT))
    open_clip.add_model_config(models)
    sys.argv = ["trainer", "--run-dir", str(run_dir), "--ring-fd", str(ring.detach()), "--name", log.stem]
    run_role(main, "trainer")
