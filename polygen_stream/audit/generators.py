"""The audit of micro generators: does a picture show what its caption says? An oracle reads it back.

Per generator: accuracy of what a caption names, on seen and on reserved combinations; whether the picture of a hard
negative shows the edit (the paper's Table 10); recognizability against diversity (its Figure 4); the radial spectrum
(its Figure 11).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import bootstrap

from polygen_stream.analyze.diversity import unbiased_std, vendi_score
from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.analyze.spectra import normalised_spectrum, radial_spectrum
from polygen_stream.base import seeding
from polygen_stream.generators.pipelines import Generator
from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import Style, describe, write_pair
from polygen_stream.micro.oracle import ANSWERS, NOT_ASKED, Oracle, OracleReading, labels_of
from polygen_stream.micro.world import Scene, Split

PICTURES_PER_CAPTION = 8  # of the captions whose diversity is measured
BATCH = 32


@dataclass(frozen=True)
class Request:
    """A caption, what it says, and the questions it answers in words."""

    caption: str
    scene: Scene
    asked: tuple[str, ...]


@dataclass(frozen=True)
class GeneratorAudit:
    """What was found of one source of pictures.

    Attributes:
        figures: As JSON can hold them; shares come with 95 % Wilson intervals.
        recognised: float [n], 1.0 where all that a caption of `single_requests` names is right, seen ones first.
        features: float [captions, PICTURES_PER_CAPTION, d], the oracle's, of several pictures of each caption.
        spectrum: float [17], `normalised_spectrum` of the pictures of `recognised`.
    """

    figures: dict[str, object]
    recognised: np.ndarray
    features: np.ndarray
    spectrum: np.ndarray


def single_requests(count: int, split: Split, seed: int) -> list[Request]:
    """One thing on a background, both named with the thing's colour; every thing equally often.

    `recognizability` is the share of their pictures in which all three are right.
    """
    out = []
    for i in range(count):
        rng = seeding.rng(seed, "audit single", split.value, i)
        scene = world.sample_single(rng, split, world.THINGS[i % len(world.THINGS)])
        out.append(Request(describe(scene, _full(rng)), scene, ("thing", "colour", "background")))
    return out


def pair_requests(count: int, split: Split, seed: int) -> list[Request]:
    """Two coloured things in a named relation on a named background."""
    asked = ("relation", "thing", "second_thing", "colour", "second_colour", "background")
    return _requests(lambda scene: scene.is_pair, asked, count, split, seed, "audit pair")


def size_requests(count: int, split: Split, seed: int) -> list[Request]:
    """One thing with a named size."""
    return _requests(lambda s: s.things[0].size != "medium" and s.position == "centre", ("size",), count, split, seed,
                     "audit size")  # fmt: skip


def count_requests(count: int, split: Split, seed: int) -> list[Request]:
    """Two or three copies of one thing."""
    return _requests(lambda scene: scene.count > 1, ("layout",), count, split, seed, "audit count")


def audit_generator(generator: Generator, oracle: Oracle, pictures: int, seed: int = 0) -> GeneratorAudit:
    """Every figure of one generator.

    Args:
        generator: what is audited.
        oracle: reads the images.
        pictures: images per kind of question, half of seen and half of reserved combinations.
        seed: of captions and noise.
    """
    clock = _Clock(generator)
    kinds = (single_requests, pair_requests, size_requests, count_requests)
    half = max(1, pictures // 2)
    asked: dict[str, list[np.ndarray]] = {}
    single: dict[str, np.ndarray] = {}
    for kind in kinds:
        for split in Split:
            requests = kind(half, split, seed)
            images = clock.render([r.caption for r in requests], seed)
            reading = oracle.read(images)
            right = reading.correct([r.scene for r in requests])
            for question in requests[0].asked:
                name = question if kind is not pair_requests or question == "relation" else f"pair_{question}"
                name = "count" if kind is count_requests else name
                asked.setdefault(name, []).append(right[question])
            if kind is single_requests:
                single[split.value] = images
                asked.setdefault("recognizability", []).append(all_right(reading, requests))
    shares = {
        name: {
            **proportion_with_interval(np.concatenate(parts)),
            "seen": proportion_with_interval(parts[0]),
            "unseen": proportion_with_interval(parts[1]),
        }
        for name, parts in asked.items()
    }
    hard_negatives = _hard_negatives(clock, oracle, pictures, seed)
    features = _features_per_caption(clock, oracle, captions_of_diversity(pictures), seed)
    drawn = np.concatenate(list(single.values()))
    figures = {
        **shares,
        **hard_negatives,
        "diversity": diversity_figures(features),
        "spectrum": radial_spectrum(drawn).round(4).tolist(),
        "images_per_second": round(clock.images / clock.seconds, 2),
    }
    return GeneratorAudit(figures, np.concatenate(asked["recognizability"]), features, normalised_spectrum(drawn))


def all_right(reading: OracleReading, requests: Sequence[Request]) -> np.ndarray:
    """Float [n]: 1.0 where the oracle reads all that a caption names; requests ask the same questions."""
    right = reading.correct([request.scene for request in requests])
    return np.stack([right[question] for question in requests[0].asked]).min(0)


def captions_of_diversity(pictures: int) -> int:
    """Return how many captions are drawn several times, of a given number of images per kind of question."""
    return max(2, pictures // PICTURES_PER_CAPTION)


def shows_edit(reading: OracleReading, scenes: Sequence[Scene], edited: Sequence[Scene]) -> np.ndarray:
    """1.0 where a picture of the edited caption shows the edit: every answer that the edit changed is the new one.

    The two scenes are compared in canonical order; where the edit only moves things, that is a change of relation.
    """
    right = reading.correct(edited)
    questions, relation = list(ANSWERS), right["relation"]
    out = np.zeros(len(scenes))
    for i, (scene, other) in enumerate(zip(scenes, edited, strict=True)):
        if other.things == scene.things and other.relation != scene.relation:
            out[i] = relation[i]
            continue
        before, after = labels_of(scene), labels_of(other)
        changed = [q for q, b, a in zip(questions, before, after, strict=True) if a not in (b, NOT_ASKED)]
        out[i] = float(all(right[q][i] == 1.0 for q in changed))
    return out


def sample_pairs(seed: int) -> list[tuple[str, str]]:
    """A caption and its hard negative for every edit, of reserved combinations."""
    out = []
    for edit in edits.EDITS:
        rng = seeding.rng(seed, "audit sample", edit)
        scene, other = edits.applicable_scene(edit, Split.UNSEEN, rng)
        out.append(write_pair(scene, other, _full(rng)))
    return out


def _requests(
    fits: Callable[[Scene], bool], asked: tuple[str, ...], count: int, split: Split, seed: int, name: str
) -> list[Request]:
    out = []
    for i in range(count):
        rng = seeding.rng(seed, name, split.value, i)
        while not fits(scene := world.sample_scene(rng, split)):
            pass
        scene = replace(scene, lighting="day", weather="clear")
        out.append(Request(describe(scene, _full(rng)), scene, asked))
    return out


def _full(rng: np.random.Generator) -> Style:
    return replace(Style.sample(rng), names_background=True, names_colour=True)


def _hard_negatives(clock: _Clock, oracle: Oracle, pictures: int, seed: int) -> dict[str, object]:
    by_edit = {}
    each = max(1, pictures // len(edits.EDITS))
    for edit in edits.EDITS:
        scenes, edited, captions = [], [], []
        for i in range(each):
            rng = seeding.rng(seed, "audit edit", edit, i)
            scene, other = edits.applicable_scene(edit, Split.SEEN, rng)
            scenes.append(scene)
            edited.append(other)
            captions.append(write_pair(scene, other, _full(rng))[1])
        by_edit[edit] = shows_edit(oracle.read(clock.render(captions, seed)), scenes, edited)
    return {
        "hard_negative_fidelity": proportion_with_interval(np.concatenate(list(by_edit.values()))),
        "hard_negative_fidelity_by_edit": {edit: proportion_with_interval(right) for edit, right in by_edit.items()},
    }


def _features_per_caption(clock: _Clock, oracle: Oracle, captions: int, seed: int) -> np.ndarray:
    requests = single_requests(captions, Split.SEEN, seed + 1)
    texts = [r.caption for r in requests for _ in range(PICTURES_PER_CAPTION)]
    return oracle.features(clock.render(texts, seed)).reshape(captions, PICTURES_PER_CAPTION, -1)


def diversity_figures(features: np.ndarray) -> dict[str, float]:
    """Mean over captions of the diversity of their pictures, with a bootstrap interval.

    Args:
        features: float [captions, pictures, d], the oracle's.
    """
    captions, pictures, _ = features.shape
    spread = np.array([unbiased_std(f) for f in features])
    interval = bootstrap((spread,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return {
        "std": round(float(spread.mean()), 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
        "vendi": round(float(np.mean([vendi_score(f) for f in features])), 4),
        "captions": captions,
        "pictures_per_caption": pictures,
    }


class _Clock:
    """Renders captions and adds up how long it took."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.images, self.seconds = 0, 0.0

    def render(self, captions: Sequence[str], seed: int) -> np.ndarray:
        """Pictures uint8 [n, h, w, 3]; picture i of a call has a seed of its own."""
        seeds = [seeding.key(seed, "audit noise", self.images + i) >> 1 for i in range(len(captions))]
        started = time.perf_counter()
        parts = [
            self._generator.render(captions[i : i + BATCH], seeds[i : i + BATCH])
            for i in range(0, len(captions), BATCH)
        ]
        self.seconds += time.perf_counter() - started
        self.images += len(captions)
        return np.concatenate(parts)
