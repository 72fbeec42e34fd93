"""All metrics of a set of images, judged by a fixed CLIP or by the oracle of the micro world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from polygen_stream.analyze.generator_metrics import generator_metrics
from polygen_stream.analyze.image_set import ImageSet
from polygen_stream.analyze.invariance import generator_probe
from polygen_stream.analyze.probe_references import probe_references
from polygen_stream.analyze.recognition import CLIP_SCORE_PREFIX, clip_score, oracle_right
from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.evaluate.encoder import Encoder, load_encoder
from polygen_stream.micro.oracle import Oracle, load_oracle
from polygen_stream.micro.painter import SIZE, paint
from polygen_stream.micro.world import sample_scene

PAINTED = 500  # images of the micro world whose spectrum the generators' are compared with


def measure(
    image_set: ImageSet,
    classes: np.ndarray,
    run_dir: Path,
    *,
    judge: Encoder | None = None,
    real: np.ndarray | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return `generator_metrics` of the images, and the generator probe on the run's own models with its references.

    Images of the micro world need no judge: the oracle grades them, and its features measure their diversity. Without
    either, only the spectra are measured.

    Args:
        image_set: n images.
        classes: int64 [n], see `generator_metrics`.
        run_dir: the run whose models are probed.
        judge: a fixed CLIP.
        real: images uint8 [m, side, side, 3] for the reference spectrum; by default the painter's in the micro world.
        device: where the run's models are probed.
    """
    images, texts = image_set.images, [image_set.captions[c] for c in image_set.caption]
    features = read = scores = oracle = None
    if images.shape[1] == SIZE:
        oracle = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors")
        features, read = oracle.features(images), oracle_right(oracle, images, texts)
        real = _painted() if real is None else real
    if judge is not None:
        features = judge.images(images).numpy()
        scores = clip_score(features, judge.texts([CLIP_SCORE_PREFIX + text for text in texts]).numpy())
    found = generator_metrics(image_set, features, classes, read=read, clip_scores=scores, reference=real)
    return {**found, "invariance": _invariance(run_dir, image_set, oracle, device)}


def _painted() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([paint(sample_scene(rng), rng) for _ in range(PAINTED)])


def _invariance(run_dir: Path, image_set: ImageSet, oracle: Oracle | None, device: str) -> dict[str, dict[str, float]]:
    """The generator probe on the run's last checkpoint, and beside it on the untrained model, content and spectrum."""
    found = list_checkpoints(run_dir)
    if len(np.unique(image_set.generator)) < 2 or not found:
        return {}
    models = {"untrained" if step == 0 else "trained": folder for step, folder in (found[0], found[-1])}
    probes = {}
    for name, folder in models.items():
        features = load_encoder(str(folder), device=device).images(image_set.images).numpy()
        probes[name] = generator_probe(features, image_set.generator, image_set.caption)
    return probes | probe_references(image_set.images, image_set.generator, image_set.caption, oracle)
