"""`polygen-stream export`: the shards of a run, rendered again from its journal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import PARTIAL, check_writable, nearest_existing
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.captions.journal import read_journal
from polygen_stream.config import load_config
from polygen_stream.export.samples import journal_samples, render_samples
from polygen_stream.export.shards import ShardWriter


def export(run_dir: Path, out: Path, per_shard: int, progress: Callable[[str], None]) -> int:
    """Render all images of a run again and write them as shards.

    Args:
        run_dir: the run folder.
        out: a new folder for the shards. It appears when it is complete.
        per_shard: a shard ends with the task that brings it to as many samples.
        progress: called with one line per generator.

    Returns:
        The number of images.

    Raises:
        UserError: no run, nothing in its journal, `out` exists already or cannot be made, or the webdataset package is
            missing.
    """
    run = RunFolder.open(run_dir)
    if out.exists():
        raise UserError(f"{out} is there already: choose another --out, or move it away")
    check_writable(nearest_existing(out.absolute().parent) / out.name)
    config = load_config(run.config)
    samples = list(journal_samples(list(read_journal(run.journal)), config.generators.negatives))
    if not samples:
        raise UserError(f"{run.journal} has no captions yet")
    partial = out.with_name(PARTIAL + out.name)
    shutil.rmtree(partial, ignore_errors=True)
    shards = ShardWriter(partial, config.generators.names, per_shard)
    images_file = partial / "images.npy"
    kept = render_samples(config, samples, images_file, progress)
    images = np.load(images_file, mmap_mode="r")
    for _, numbers in groupby(np.flatnonzero(kept).tolist(), key=lambda number: samples[number].task_id):
        task = list(numbers)
        shards.write([samples[number] for number in task], [images[number] for number in task])
    shards.publish()
    images_file.unlink()
    partial.rename(out)
    return shards.samples
