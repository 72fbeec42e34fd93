"""WebDataset shards, as open_clip's training script reads them.

    OUT/000000.tar ...     samples TASK-MEMBER.png, .txt, .json
    OUT/sizes.json         samples of each shard, by which open_clip knows the size of the whole

A sample is a picture and its caption; a picture of a hard negative has the negative caption. The JSON says what it is:
task, member, polarity, generator, seed.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from polygen_stream.captions.journal import JOURNAL, read_journal
from polygen_stream.config import load_config
from polygen_stream.errors import UserError
from polygen_stream.export.samples import render, samples_of

PARTIAL = ".partial-"  # prefix of a folder being written


def export(run: Path, out: Path, per_shard: int, say: Callable[[str], None]) -> int:
    """Renders all pictures of a run again and writes them with their captions; how many.

    `out` appears when it is complete.

    Raises:
        UserError: no run, nothing in its journal, `out` is there already, or the webdataset package is missing.
    """
    try:
        from webdataset import ShardWriter
    except ImportError:
        raise UserError("writing shards needs the webdataset package: pip install 'polygen-stream[export]'") from None
    if not (run / "config.toml").is_file():
        raise UserError(f"{run} is no run folder (it has no config.toml); name one")
    if out.exists():
        raise UserError(f"{out} is there already: choose another --out, or move it away")
    config = load_config(run / "config.toml")
    samples = list(samples_of(list(read_journal(run / JOURNAL)), config.generators.negatives))
    if not samples:
        raise UserError(f"{run / JOURNAL} has no captions yet")
    partial = out.with_name(PARTIAL + out.name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pictures_file = partial / "pictures.npy"
    kept = render(config, samples, pictures_file, say)
    pictures = np.load(pictures_file, mmap_mode="r")
    sizes: dict[str, int] = {}
    with ShardWriter(str(partial / "%06d.tar"), maxcount=per_shard, verbose=0) as shards:
        for number in np.flatnonzero(kept).tolist():
            sample = samples[number]
            what = {
                "task": sample.task_id,
                "member": sample.member,
                "polarity": "negative" if sample.negative else "positive",
                "generator": config.generators.recipes[sample.generator],
                "seed": sample.seed,
            }
            shards.write(
                {
                    "__key__": f"{sample.task_id:09d}-{sample.member:04d}",
                    "png": _png(pictures[number]),
                    "txt": sample.text,
                    "json": json.dumps(what).encode(),
                }
            )
            name = Path(shards.fname).name
            sizes[name] = sizes.get(name, 0) + 1
    (partial / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    pictures_file.unlink()
    partial.rename(out)
    return int(kept.sum())


def _png(picture: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "png")
    return data.getvalue()
