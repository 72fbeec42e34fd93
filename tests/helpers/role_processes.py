"""Producers as processes of their own, on a ring that the test owns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from polygen_stream.config import RunConfig, dump_config
from polygen_stream.ring import Ring


@contextmanager
def starting(folder: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Gives start(config, ring, role, *arguments), which runs a role; what is left of it is killed at the end."""
    running: list[subprocess.Popen] = []

    def start(config: RunConfig, ring: Ring, role: str, *arguments: str) -> subprocess.Popen:
        dump_config(config, folder / "config.toml")
        command = [sys.executable, "-m", f"polygen_stream.producers.{role}", "--run-dir", str(folder)]
        command += ["--ring-fd", str(ring.fd), "--name", role, *arguments]
        running.append(subprocess.Popen(command, pass_fds=[ring.fd], stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait(done: Callable[[], object], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def fill(ring: Ring, most: int = 10**6) -> int:
    """Commits noise for everything that is wanted, or `most` images of it; how many images that were."""
    rng, done = np.random.default_rng(0), 0
    while done < most and (claims := ring.claim(range(len(ring.spec.generators)), min(64, most - done))):
        ring.commit(claims, rng.integers(0, 256, (len(claims), *ring.spec.image_shape), np.uint8))
        done += len(claims)
    return done
