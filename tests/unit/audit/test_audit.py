"""Figures of the audit against cases whose answer is known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt

from polygen_stream.analyze.diversity import unbiased_std, vendi_score
from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.analyze.spectra import radial_spectrum
from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.audit.ensemble import audit_ensemble, audit_painter
from polygen_stream.audit.generators import GeneratorAudit, diversity_figures, shows_edit
from polygen_stream.audit.view import audit_figure
from polygen_stream.micro import edits
from polygen_stream.micro.oracle import load_oracle
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Split


def audit(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "polygen_stream", "audit", "--threads", "1", *words], capture_output=True, text=True
    )


def test_share_with_its_wilson_interval() -> None:
    right = np.array([1.0] * 80 + [0.0] * 20 + [np.nan] * 50)
    # Wilson's formula for 80 of 100 at z = 1.96
    assert proportion_with_interval(right) == {"share": 0.8, "low": 0.7112, "high": 0.8666, "n": 100}


@pytest.mark.extended
def test_an_edit_is_shown_by_the_edited_picture_and_not_by_the_original() -> None:
    oracle = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors")
    rng = np.random.default_rng(11)
    for edit in edits.EDITS:
        pairs = [edits.applicable_scene(edit, Split.SEEN, rng) for _ in range(40)]
        scenes, edited = [p[0] for p in pairs], [p[1] for p in pairs]
        shown = shows_edit(oracle.read(np.stack([paint(s, rng) for s in edited])), scenes, edited)
        not_shown = shows_edit(oracle.read(np.stack([paint(s, rng) for s in scenes])), scenes, edited)
        assert shown.mean() >= 0.85, edit
        assert not_shown.mean() <= 0.1, edit


def test_vendi_counts_different_pictures() -> None:
    assert vendi_score(np.ones((5, 7))) == pytest.approx(1.0)
    assert vendi_score(np.eye(6)) == pytest.approx(6.0)
    twice = np.concatenate([np.eye(3), np.eye(3)])
    assert vendi_score(twice) == pytest.approx(3.0)


def test_unbiased_std_is_the_mean_over_features() -> None:
    features = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    assert unbiased_std(features) == pytest.approx((2.0 + 0.0) / 2)


def test_radial_spectrum_sees_where_the_power_is() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    flat = radial_spectrum(noise)
    assert len(flat) == 17
    assert np.ptp(flat[3:]) < 0.15  # white noise: the same power at every radius beyond the window's own
    x = np.arange(32)
    wave = np.broadcast_to((127 + 100 * np.sin(2 * np.pi * 8 * x / 32))[None, None, :, None], (1, 32, 32, 3))
    assert radial_spectrum(wave.astype(np.uint8))[2:].argmax() + 2 == 8  # eight periods across the picture


def test_the_painter_is_read_well_and_paints_a_caption_in_different_ways() -> None:
    oracle = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors")
    found = audit_painter(oracle, 96)
    share = found.figures["recognizability"]
    assert share["low"] > 0.85 and share["n"] == 96 and share["seen"]["n"] == share["unseen"]["n"] == 48
    spread = found.figures["diversity"]
    assert 0 < spread["low"] <= spread["std"] <= spread["high"] and spread["captions"] == 12
    assert audit_painter(oracle, 96).figures == found.figures


def test_the_ensemble_is_more_diverse_than_its_generators_where_these_differ() -> None:
    rng = np.random.default_rng(13)
    rows = rng.normal(size=(2, 20, 8, 6))
    right = np.repeat([1.0, 0.0], 10), np.repeat([1.0, 0.0], 20)
    alike = [GeneratorAudit({}, r, features, np.zeros(17)) for r, features in zip(right, rows, strict=True)]
    apart = [replace(audit, features=audit.features + 5 * i) for i, audit in enumerate(alike)]
    alone, together = diversity_figures(rows[0]), audit_ensemble(alike)
    assert together["diversity"]["std"] == pytest.approx(alone["std"], rel=0.1)
    assert audit_ensemble(apart)["diversity"]["low"] > 2 * alone["high"]
    assert together["recognizability"]["share"] == 0.5 and together["recognizability"]["n"] == 60
    assert audit_ensemble(alike[:1])["diversity"] == alone


def test_the_ensemble_and_the_painter_are_points_of_the_picture() -> None:
    share = {"share": 0.8, "low": 0.7, "high": 0.9}
    one = {"recognizability": share, "diversity": {"std": 0.3, "low": 0.2, "high": 0.4}}
    painter = one | {"spectrum": [1.0] * 17}
    shown = painter | {"hard_negative_fidelity_by_edit": {"swap_object": share}}
    figure = audit_figure({"a": shown, "b": shown}, {"ensemble": one, "painter": painter})
    quadrant, spectra, _ = figure.axes
    assert [text.get_text() for text in quadrant.get_legend().get_texts()] == ["a", "b", "ensemble", "painter"]
    assert [text.get_text() for text in spectra.get_legend().get_texts()] == ["a", "b", "painter"]
    plt.close(figure)


@pytest.mark.extended
def test_audit_command_writes_every_figure(tmp_path: Path) -> None:
    done = audit(
        "--generators.recipes", "micro/sdxl_turbo", "--images", "28",
        "--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png"), "--samples", str(tmp_path / "s.png"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "a.json").read_text())
    figures = written["generators"]["micro/sdxl_turbo"]
    wanted = {"thing", "colour", "background", "relation", "size", "count", "hard_negative_fidelity", "diversity"}
    assert wanted <= figures.keys()
    assert figures["thing"]["n"] == 28 and figures["thing"]["seen"]["n"] == 14
    assert figures["images_per_second"] > 0
    # the ensemble of one generator is that generator
    for name in ("recognizability", "diversity"):
        assert written["ensemble"][name].items() <= figures[name].items()
    assert written["painter"]["recognizability"]["low"] > 0.8 and len(written["painter"]["spectrum"]) == 17
    distances = written["spectral_distances"]
    assert distances["micro/sdxl_turbo"]["painter"] == distances["painter"]["micro/sdxl_turbo"] > 0
    assert distances["painter"]["painter"] == 0 and "Distance of spectra, decades" in done.stdout
    assert min((tmp_path / name).stat().st_size for name in ("a.png", "s.png")) > 10_000


@pytest.mark.extended
def test_audit_refuses_generators_of_another_world_and_a_missing_folder(tmp_path: Path) -> None:
    done = audit("--json", str(tmp_path / "no" / "a.json"))
    assert done.returncode == 2
    assert f"there is no folder {tmp_path / 'no'}" in done.stderr and "Traceback" not in done.stderr
