"""One rank of a trainer as a child process of a test, forked from a server that has done the imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path

import torch.utils.tensorboard  # noqa: F401  # imported once, in the server, instead of by rank 0 of every test

from polygen_stream.roles.role import run_role
from polygen_stream.train.run import main

TINY_VIT = str(Path(__file__).with_name("tiny_vit.json"))  # a model config small enough for many ranks on a few cores

PROCESSES = multiprocessing.get_context("forkserver")


def start_rank(ring_fd: int, run_dir: Path, log: Path, environment: dict[str, str]) -> multiprocessing.Process:
    """Start a trainer's process with these environment variables."""
    PROCESSES.set_forkserver_preload([__name__])
    process = PROCESSES.Process(target=_rank, args=(DupFd(ring_fd), run_dir, log, environment))
    process.start()
    return process


def _rank(ring: DupFd, run_dir: Path, log: Path, environment: dict[str, str]) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.environ.update(environment)
    sys.argv = ["trainer", "--run-dir", str(run_dir), "--ring-fd", str(ring.detach()), "--name", log.stem]
    run_role(main, "trainer")
