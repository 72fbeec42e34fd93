"""References for the generator probe: what a linear probe finds in features that no training has made.

Generators differ in what they draw of a caption and in how their pictures look. A model's probe is read beside three
numbers on the same pictures: the embedding of an untrained model (`measure`), what is in the pictures, and the spectrum
alone. A model that tells generators apart no better than content does has nothing of their looks.
"""

from __future__ import annotations

import numpy as np

from polygen_stream.analyze.invariance import generator_probe
from polygen_stream.analyze.spectra import radial_spectra
from polygen_stream.micro.oracle import ANSWERS, LAYOUTS, Oracle

OF_PAIRS = ("second_thing", "second_colour", "second_material")
OF_ONE = ("size", "position")


def probe_references(
    images: np.ndarray, generators: np.ndarray, captions: np.ndarray, oracle: Oracle | None
) -> dict[str, dict[str, float]]:
    """Return `generator_probe` on what is in the pictures and on how they look, {"content", "spectrum"}.

    Args:
        images: uint8 [n, side, side, 3].
        generators: int64 [n].
        captions: int64 [n].
        oracle: Reads pictures of the micro world; without it there is no "content".
    """
    features = {"spectrum": spectrum_features(images)}
    if oracle is not None:
        features = {"content": content_features(oracle, images), **features}
    return {name: generator_probe(values, generators, captions) for name, values in features.items()}


def content_features(oracle: Oracle, images: np.ndarray) -> np.ndarray:
    """Return what the oracle reads in each picture, one column per possible answer: float [n, answers].

    An answer that applies is 1 over the root of the number of questions, all others are 0, whatever the oracle's
    certainty. Of a picture without a second thing nothing is said about one; size and position are those of one thing.

    Args:
        oracle: The reader.
        images: uint8 [n, 32, 32, 3].
    """
    answers = {question: log_p.argmax(-1) for question, log_p in oracle.read(images).log_p.items()}
    layout = np.array(LAYOUTS)[answers["layout"]]
    applies = {question: np.isin(layout, ("beside", "stacked")) for question in OF_PAIRS}
    applies |= {question: layout == "one" for question in OF_ONE}
    columns = [
        np.eye(len(ANSWERS[question]))[answers[question]] * applies.get(question, np.ones(len(images), bool))[:, None]
        for question in ANSWERS
    ]
    return np.concatenate(columns, axis=1) / np.sqrt(len(ANSWERS))


def spectrum_features(images: np.ndarray) -> np.ndarray:
    """Return the log10 power by radius of each picture, its total power being 1: float [n, side // 2 + 1].

    Columns are standardised over the pictures and divided by the root of their number: a row is about 1 long.

    Args:
        images: uint8 [n, side, side, 3].
    """
    spectra = radial_spectra(images)
    scale = spectra.std(axis=0)
    return (spectra - spectra.mean(axis=0)) / np.where(scale > 0, scale, 1) / np.sqrt(spectra.shape[1])
