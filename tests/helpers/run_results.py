"""Everything that two runs of resumable_run.py have to agree in, and the comparison."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import resumable_run
import torch
from safetensors.torch import load_file

from polygen_stream.checkpoints import list_checkpoints

RUN = [sys.executable, resumable_run.__file__]


def result(run_dir: Path) -> dict[str, object]:
    """Everything that has to be equal."""
    step, folder = list_checkpoints(run_dir)[-1]
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return {
        "step": step,
        "weights": load_file(folder / "model.safetensors"),
        "average": load_file(folder / "average.safetensors"),
        "optimizer": torch.load(folder / "state.pt", weights_only=True)["optimizer"]["state"],
        "training": [{name: line[name] for name in ("step", "loss", "lr", "p", "grad_norm")} for line in lines],
        "draws": [json.loads(line) for line in (run_dir / "draw_log.jsonl").read_text().splitlines()],
        "journal": (run_dir / "journal.jsonl").read_text(),
    }


def assert_same(ours: object, theirs: object, where: str = "") -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{where}/{place}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where
