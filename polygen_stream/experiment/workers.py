"""Processes that an experiment computes in."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def workers_of(jobs: int) -> ProcessPoolExecutor:
    """Return a pool of processes with one CPU thread each; they end when the calling process ends, however it ends."""
    # Thread pools that share cores slow each other down; child processes read this when they load torch.
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # this is a child process

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
