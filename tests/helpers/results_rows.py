"""Rows of an experiment's result table."""

from __future__ import annotations

from typing import Any

from polygen_stream.experiment.results import TrialResult


def result(arm: str, seed: int, **changes: Any) -> TrialResult:
    """A test run with a learning rate of 0.001; `changes` are fields of the row."""
    values = {
        "arm": arm, "phase": "test", "seed": seed, "lr": 0.001, "settings": "", "ensemble": "sd15", "n_positives": 1,
        "m": 1, "captions": 1024, "images_rendered": 1024, "images_seen": 32000, "texts_seen": 16000, "steps": 200,
        "seconds_training": 30.5, "seconds": 60.0, "final_loss": 1.25, "early_grad_norm_variance": 9.5,
        "validation": 0.3, "scores": {},
    }  # fmt: skip
    return TrialResult.model_validate(values | changes)
