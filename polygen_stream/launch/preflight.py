"""What a run needs from the machine and can be found missing before anything starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from polygen_stream.config import RunConfig
from polygen_stream.errors import UserError
from polygen_stream.launch.plan import Plan

MIB = 2**20
# Besides the ring: model, optimizer and averages of a checkpoint at micro scale, logs, journal and reports. What a
# large model adds is known to the trainer only, which says so when the disk is full.
REST_BYTES = 256 * MIB


def check_disk(config: RunConfig, plan: Plan, run_dir: Path) -> None:
    """Refuses to start a run whose checkpoints will not fit.

    Raises:
        UserError: too little space where the run folder is or will be.
    """
    train = config.train
    pictures = plan.ring.slots * config.ring.image_size**2 * 3
    snapshot = plan.ring.nbytes - (0 if train.checkpoint_pictures else pictures)
    kept = train.keep_checkpoints + 3  # the untrained one, the final one, and one that is being written
    needed = kept * snapshot + REST_BYTES
    there = next(folder for folder in (run_dir, *run_dir.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{there} has {free / MIB:.0f} MiB free, but {kept} checkpoints with a ring of {snapshot / MIB:.0f} MiB "
            f"each and the rest of the run need {needed / MIB:.0f} MiB: free some space, choose another --run-dir, "
            "lower train.keep_checkpoints or ring.slots, or set train.checkpoint_pictures = false"
        )
