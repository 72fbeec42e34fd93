"""Processes that an experiment computes in."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def workers_of(jobs: int) -> ProcessPoolExecutor:
    """So many processes of one CPU thread each, which end when this one does, however it ends."""
    # Pools of threads that share cores slow each other down; children read this when they load torch.
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
