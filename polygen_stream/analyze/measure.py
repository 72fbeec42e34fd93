"""Every figure of a set of pictures, judged by a fixed CLIP or by the micro world's oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polygen_stream.analyze.generator_metrics import generator_metrics
from polygen_stream.analyze.invariance import generator_probe
from polygen_stream.analyze.pictures import PictureSet
from polygen_stream.analyze.recognition import CLIP_SCORE_PREFIX, clip_score, oracle_right
from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.evaluate.encoder import Encoder, load_encoder
from polygen_stream.micro.oracle import load_oracle
from polygen_stream.micro.painter import SIZE, paint
from polygen_stream.micro.world import sample_scene

PAINTED = 500  # pictures of the micro world whose spectrum the generators' are compared with


def measure(
    pictures: PictureSet,
    classes: np.ndarray,
    run_dir: Path,
    *,
    judge: Encoder | None = None,
    real: np.ndarray | None = None,
) -> dict[str, object]:
    """`portrait` of the pictures, and the generator probe on the run's own models.

    Pictures of the micro world need no judge: the oracle grades them, and its features measure their diversity.
    Without either, what remains is the spectra.

    Args:
        classes: int64 [n], see `portrait`.
        real: pictures uint8 [m, side, side, 3]; the painter's in the micro world.
    """
    images, texts = pictures.images, [pictures.captions[c] for c in pictures.caption]
    features = read = scores = None
    if images.shape[1] == SIZE:
        oracle = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors")
        features, read = oracle.features(images), oracle_right(oracle, images, texts)
        real = _painted() if real is None else real
    if judge is not None:
        features = judge.images(images).numpy()
        scores = clip_score(features, judge.texts([CLIP_SCORE_PREFIX + text for text in texts]).numpy())
    found = generator_metrics(pictures, features, classes, read=read, clip_scores=scores, reference=real)
    return {**found, "invariance": _invariance(run_dir, pictures)}


def _painted() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([paint(sample_scene(rng), rng) for _ in range(PAINTED)])


def _invariance(run_dir: Path, pictures: PictureSet) -> dict[str, dict[str, float]]:
    """The generator probe on the run's last checkpoint, and on the untrained model beside it."""
    found = list_checkpoints(run_dir)
    if len(np.unique(pictures.generator)) < 2 or not found:
        return {}
    asked = {"untrained" if step == 0 else "trained": folder for step, folder in (found[0], found[-1])}
    return {
        name: generator_probe(
            load_encoder(str(folder)).images(pictures.images).numpy(), pictures.generator, pictures.caption
        )
        for name, folder in asked.items()
    }
