"""Figures of the analysis against small computations of their published formulas, and on cases with known answers."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from polygen_stream.analyze.correlation import correlations
from polygen_stream.analyze.diversity import scatter, unbiased_std, vendi_score
from polygen_stream.analyze.generator_metrics import generator_metrics
from polygen_stream.analyze.image_set import ImageSet
from polygen_stream.analyze.invariance import generator_probe
from polygen_stream.analyze.probe_references import content_features, probe_references
from polygen_stream.analyze.recognition import clip_score, oracle_right, prototype_right
from polygen_stream.analyze.spectra import (
    high_frequency_share,
    normalised_spectrum,
    radial_spectrum,
    slope,
    spectral_distance,
)
from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.micro import world
from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.oracle import ANSWERS, load_oracle
from polygen_stream.micro.painter import paint


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_vendi_score_is_the_exponential_of_the_kernels_entropy():
    rows = np.random.default_rng(0).normal(size=(7, 4))
    kernel = [[sum(a * b) / math.dist(a, 0 * a) / math.dist(b, 0 * b) / 7 for b in rows] for a in rows]
    entropy = -sum(v * math.log(v) for v in np.linalg.eigvals(np.array(kernel)).real if v > 1e-12)
    assert vendi_score(rows) == pytest.approx(math.exp(entropy))


def test_boutins_diversity():
    rows = np.random.default_rng(1).normal(size=(6, 3))
    by_hand = [math.sqrt(sum((x - sum(c) / 6) ** 2 for x in c) / 5) for c in rows.T.tolist()]
    assert unbiased_std(rows) == pytest.approx(sum(by_hand) / 3)


def test_clip_score():
    images, texts = unit(np.random.default_rng(2).normal(size=(2, 5, 8)).reshape(10, 8)).reshape(2, 5, 8)
    by_hand = [2.5 * max(sum(a * b for a, b in zip(i, t, strict=True)), 0) for i, t in zip(images, texts, strict=True)]
    assert clip_score(images, texts) == pytest.approx(by_hand)
    assert min(by_hand) == 0  # one of them is opposite


def test_the_radial_profile_by_a_loop_over_frequencies():
    side = 12
    image = np.random.default_rng(3).integers(0, 256, (side, side, 3))
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / (side - 1)) for i in range(side)]
    grey = [
        [(0.2989 * r + 0.5870 * g + 0.1140 * b) / 255 * hann[y] * hann[x] for x, (r, g, b) in enumerate(row)]
        for y, row in enumerate(image.tolist())
    ]
    rings: dict[int, list[float]] = {}
    for v, u in product(range(-side // 2, side // 2), repeat=2):
        wave = sum(
            grey[y][x] * np.exp(-2j * math.pi * (u * x + v * y) / side) for y, x in product(range(side), repeat=2)
        )
        rings.setdefault(round(math.hypot(u, v)), []).append(abs(wave) ** 2)
    power = [sum(rings[r]) / len(rings[r]) for r in range(side // 2 + 1)]
    total = sum(sum(rings[r]) for r in range(side // 2 + 1))
    pictures = image[None].astype(np.uint8)
    assert radial_spectrum(pictures) == pytest.approx([math.log10(p) for p in power], abs=1e-6)
    assert normalised_spectrum(pictures) == pytest.approx([math.log10(p / total) for p in power], abs=1e-6)
    high, ac = (sum(sum(rings[r]) for r in range(start, side // 2 + 1)) for start in (side // 4 + 1, 1))
    assert high_frequency_share(pictures) == pytest.approx(high / ac)


def test_brightness_does_not_move_the_normalised_spectrum():
    dark = np.random.default_rng(4).integers(0, 60, (40, 32, 32, 3), dtype=np.uint8)
    assert spectral_distance(normalised_spectrum(dark), normalised_spectrum(dark * 4)) < 1e-6
    assert abs(radial_spectrum(dark * 4) - radial_spectrum(dark)).min() > 1  # decades: 4 times the amplitude


def test_slope_and_distance_of_known_spectra():
    radii = np.arange(1, 17)
    falling = np.concatenate([[0.0], -2 * np.log10(radii)])
    assert slope(falling) == pytest.approx(-2)
    assert spectral_distance(falling, falling + 0.3) == pytest.approx(0.3)


def test_scatter_adds_up_and_knows_one_generator_from_several():
    rng = np.random.default_rng(5)
    captions, generators = np.repeat(np.arange(40), 12), np.tile(np.repeat(np.arange(3), 4), 40)
    same = rng.normal(size=(480, 6)) + 5 * rng.normal(size=(40, 6))[captions]
    found = scatter(same, captions, generators)
    total = sum(((same[captions == c] - same[captions == c].mean(0)) ** 2).sum() for c in range(40))
    assert found.within + found.between == pytest.approx(total)
    assert found.expected_share == pytest.approx(2 / 11)
    assert found.between_share == pytest.approx(found.expected_share, abs=0.02)
    different = same + 3 * rng.normal(size=(3, 6))[generators]
    assert scatter(different, captions, generators).between_share > 0.6
    with pytest.raises(ValueError, match="two generators"):
        scatter(same, captions, np.zeros(480, int))


def test_prototypes_come_from_the_other_generators():
    features = np.array([[0.0, 0], [10, 0], [0.1, 0], [10, 0.1], [9, 0], [1, 0]])
    classes, generators = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    # generator 2 draws the classes the wrong way round
    assert prototype_right(features, classes, generators).tolist()[4:] == [0.0, 0.0]
    alone = prototype_right(features, np.array([0, 1, 0, 1, 2, 1]), generators)
    assert math.isnan(alone[4])


def test_the_oracle_reads_painted_pictures_and_not_others():
    oracle = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors")
    rng = np.random.default_rng(6)
    scenes = [world.sample_scene(rng) for _ in range(80)]
    images, texts = np.stack([paint(s, rng) for s in scenes]), [describe(s, Style.sample(rng)) for s in scenes]
    assert oracle_right(oracle, images, texts).mean() > 0.75
    assert np.nanmean(oracle_right(oracle, images, texts[1:] + texts[:1])) < 0.1
    assert np.isnan(oracle_right(oracle, images[:1], ["quite another language"])).all()


def test_the_probe_finds_generators_that_leave_a_mark():
    rng = np.random.default_rng(7)
    captions, generators = np.repeat(np.arange(80), 3), np.tile(np.arange(3), 80)
    plain = rng.normal(size=(240, 8))
    found = generator_probe(unit(plain), generators, captions)
    assert found["low"] < found["chance"] == 0.3333 < found["high"]
    marked = generator_probe(unit(plain + 3 * np.eye(8)[generators]), generators, captions)
    assert marked["low"] > 0.8 and marked["n"] == 60


def painted_by_two(second, captions: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of the same scenes by the painter and by `second` of the painter's: images, generators, captions."""
    rng = np.random.default_rng(10)
    scenes = [world.sample_single(rng, world.Split.SEEN, world.THINGS[i % 24]) for i in range(captions)]
    first, other = (np.stack([paint(scene, rng) for scene in scenes for _ in range(2)]) for _ in range(2))
    number = np.repeat(np.arange(captions), 2)
    return np.concatenate([first, second(other, rng)]), np.repeat([0, 1], 2 * captions), np.tile(number, 2)


def softened(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of each pixel from the mean of its neighbourhood: the things are the same, high frequencies are weaker."""
    wide = np.pad(images.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    blurred = np.mean([wide[:, y : y + 32, x : x + 32] for y in range(3) for x in range(3)], axis=0)
    return ((images + blurred) / 2).round().astype(np.uint8)


ORACLE = SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors"


def test_a_probe_finds_generators_by_their_spectra_and_not_by_contents_that_are_the_same():
    images, generators, captions = painted_by_two(softened)
    found = probe_references(images, generators, captions, load_oracle(ORACLE))
    assert found["spectrum"]["low"] > 0.65 and found["spectrum"]["chance"] == 0.5
    assert found["content"]["low"] < 0.5 < found["content"]["high"]


def test_a_probe_finds_nothing_between_a_painter_and_himself():
    found = probe_references(*painted_by_two(lambda images, rng: images), load_oracle(ORACLE))
    assert all(probe["low"] < probe["chance"] < probe["high"] for probe in found.values())
    assert probe_references(*painted_by_two(softened), None).keys() == {"spectrum"}


def test_a_probe_finds_generators_that_draw_other_things_by_the_contents():
    rng = np.random.default_rng(11)
    scenes = [world.sample_scene(rng) for _ in range(60)]
    darker = [replace(scene, lighting="night") for scene in scenes]
    images = np.stack([paint(scene, rng) for scene in [replace(s, lighting="day") for s in scenes] + darker])
    generators, captions = np.repeat([0, 1], 60), np.tile(np.arange(60), 2)
    assert probe_references(images, generators, captions, load_oracle(ORACLE))["content"]["low"] > 0.7


def test_contents_are_the_oracles_answers_where_its_questions_apply():
    rng = np.random.default_rng(12)
    thing = world.Thing("house", "red", "big")
    pair = world.Scene((world.Thing("cat", "black"), world.Thing("star", "yellow")), "sea", "left of")
    one = content_features(
        load_oracle(ORACLE), np.stack([paint(world.Scene((thing,), "meadow"), rng), paint(pair, rng)])
    )
    width = [len(answers) for answers in ANSWERS.values()]
    asked = [
        [question for question, part in zip(ANSWERS, np.split(row, np.cumsum(width)[:-1]), strict=True) if part.any()]
        for row in one
    ]
    everywhere = {"layout", "thing", "colour", "material", "background", "lighting", "weather"}
    assert set(asked[0]) == everywhere | {"size", "position"}
    assert set(asked[1]) == everywhere | {"second_thing", "second_colour", "second_material"}


def test_generator_metrics_have_every_figure_and_puts_the_generators_where_they_are():
    rng = np.random.default_rng(8)
    captions, generators = np.repeat(np.arange(10), 8), np.tile(np.repeat([0, 1], 4), 10)
    centre = 10 * rng.normal(size=(10, 5))
    features = centre[captions] + rng.normal(size=(80, 5)) * np.where(generators, 3.0, 0.5)[:, None]
    images = rng.integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)
    images[generators == 1] = images[generators == 1] // 4 + 96
    names = tuple(f"caption {i}" for i in range(10))
    pictures = ImageSet(images, generators, captions, ("tight", "wide"), names, names)
    found = generator_metrics(
        pictures, features, captions, read=np.ones(80), clip_scores=np.full(80, 0.7), reference=images[generators == 0]
    )
    tight, wide = found["generators"]["tight"], found["generators"]["wide"]
    assert tight["diversity"]["high"] < wide["diversity"]["low"]
    assert tight["oracle"]["share"] == 1.0 and tight["clip_score"]["mean"] == 0.7
    assert tight["spectral_distance"] == 0.0 < wide["spectral_distance"]
    assert found["ensemble"]["distances"]["tight"]["wide"] == pytest.approx(wide["spectral_distance"], abs=1e-3)
    expected = np.mean([features[(captions == c) & (generators == 0)].std(0, ddof=1).mean() for c in range(10)])
    assert tight["diversity"]["mean"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.extended
def test_correlations_over_runs():
    rng = np.random.default_rng(9)
    x = rng.normal(size=12)
    points = [
        {"diversity": float(v), "noise": float(n), "same": 1.0} for v, n in zip(x, rng.normal(size=12), strict=True)
    ]
    found = correlations(points, list(x**3 + 1))
    assert found["diversity"] == {"rho": 1.0, "p": pytest.approx(0.0002, abs=2e-4), "runs": 12}
    assert found["noise"]["p"] > 0.05
    assert "same" not in found
    ranks = [sorted(x).index(v) for v in x]
    others = [sorted(p["noise"] for p in points).index(p["noise"]) for p in points]
    squares = sum((a - b) ** 2 for a, b in zip(ranks, others, strict=True))
    assert found["noise"]["rho"] == pytest.approx(1 - 6 * squares / (12 * 143), abs=1e-4)
    assert correlations(points[:3], [1, 2, 3]) == {}
