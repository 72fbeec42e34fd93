"""Exported shards, read by webdataset and by open_clip's own training script, unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset

from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import CaptionJournal, JournalEntry
from polygen_stream.config import dump_config, load_config
from polygen_stream.export.webdataset import export
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.schedule.ledger import Ledger

GENERATOR = "micro/sdxl_turbo"
SETTINGS = {
    "generators.recipes": GENERATOR,
    "generators.backend": "eager",
    "generators.batch": "4",
    "captions.source": "grammar",
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """The export of a run of 12 captions, every third with a hard negative, and one that was dropped."""
    run = tmp_path_factory.mktemp("run")
    dump_config(load_config(None, SETTINGS), run / "config.toml")
    ledger = Ledger(0, ("car", "ball"), ("colour",), 1, 2)
    entries = [
        JournalEntry(ledger.task(i), i % 3 == 0, Caption(f"a red car {i}", f"a blue car {i}" if i % 3 == 0 else None))
        for i in range(12)
    ]
    journal = CaptionJournal(run / "journal.jsonl")
    journal.write([*entries, JournalEntry(ledger.task(12), False, Dropped(("caption: empty",)))])
    journal.close()
    out = run / "shards"
    assert export(run, out, per_shard=10, progress=lambda line: None) == 12 * 2 + 4 * 2
    return out


@pytest.mark.quick
def test_webdataset_reads_every_sample_once(shards):
    names = sorted(path.name for path in shards.iterdir())
    assert names == ["000000.tar", "000001.tar", "000002.tar", "sizes.json"]
    # Four pictures of each third caption, two of the others: a caption's pictures lie in one shard.
    assert json.loads((shards / "sizes.json").read_text()) == dict(zip(names, (12, 10, 10), strict=False))
    urls = [str(shards / name) for name in names[:-1]]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len({sample["__key__"] for sample in found}) == 32
    by_key = {(sample["json"]["task"], sample["json"]["member"]): sample for sample in found}
    assert by_key[3, 0]["txt"] == "a red car 3" and by_key[3, 0]["json"]["polarity"] == "positive"
    assert by_key[3, 2]["txt"] == "a blue car 3" and by_key[3, 2]["json"]["polarity"] == "negative"
    assert by_key[3, 2]["json"]["seed"] == by_key[3, 0]["json"]["seed"], "the twin has the noise of its positive"


def test_pictures_are_those_that_the_generator_makes_of_the_journal(shards):
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))[:4]
    generator = load_generator(load_recipe(GENERATOR))
    again = generator.render([sample["txt"] for sample in found], [sample["json"]["seed"] for sample in found])
    assert all(np.array_equal(sample["png"], picture) for sample, picture in zip(found, again, strict=True))


@pytest.mark.timeout(900)
def test_open_clip_trains_on_them_unchanged(shards, tmp_path):
    model = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny.json").write_text(json.dumps(model))
    start = (
        f"import open_clip; open_clip.add_model_config({str(tmp_path)!r});"
        " import runpy; runpy.run_module('open_clip_train.main', run_name='__main__', alter_sys=True)"
    )
    options = {
        "train-data": f"{shards}/{{000000..000002}}.tar", "dataset-type": "webdataset", "model": "tiny",
        "batch-size": "8", "epochs": "1", "workers": "0", "lr": "1e-3", "warmup": "1", "precision": "fp32",
        "logs": str(tmp_path / "logs"), "name": "exported", "device": "cpu", "log-every-n-steps": "1",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-c", start, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    # sizes.json says 32 samples: four steps of eight
    assert "Train Epoch: 0" in said and "32/32 (100%)" in said, said[-3000:]
    assert (tmp_path / "logs" / "exported" / "checkpoints" / "epoch_1.pt").exists()


def test_what_cannot_be_exported_is_refused_in_one_line(shards, tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        export(tmp_path, tmp_path / "out", 10, print)
    with pytest.raises(UserError, match="is there already"):
        export(shards.parent, shards, 10, print)
    dump_config(load_config(None, SETTINGS), tmp_path / "config.toml")
    with pytest.raises(UserError, match="has no captions yet"):
        export(tmp_path, tmp_path / "out", 10, print)
