"""The report of a run: what it holds, and that it stands alone."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from html_page import Page
from run_folders import STEPS, TASK, TRAP, in_another_world, make_run

from polygen_stream.base.errors import UserError
from polygen_stream.report import gallery, report
from polygen_stream.report.plots import smooth, training_plots
from polygen_stream.report.run_data import read_run_data


def test_a_report_has_every_plot_and_picture_with_words_for_each(page):
    figures = [image for image in page.all("img") if image["src"].startswith("data:image/svg+xml")]
    assert [image["aria-describedby"].removeprefix("about-") for image in figures] == [
        "scores", "against", "edits", "loss", "curriculum", "leftover", "throughput", "waiting", "fill", "reuse",
        "quadrant", "spectra", "invariance",
    ]  # fmt: skip
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert {image["aria-describedby"] for image in figures} <= set(ids)
    for image in figures:
        svg = base64.b64decode(image["src"].split(",", 1)[1]).decode()
        assert "<svg" in svg and "<path" in svg
    tiles = [image for image in page.all("img") if image["src"].startswith("data:image/png")]
    assert len(tiles) > 12 * 2 + 2 * 6 and all(tile["alt"] for tile in tiles)
    assert sum("negative, " in tile["alt"] for tile in tiles) >= 6


def test_a_report_stands_alone(page):
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:")), attrs
    assert not page.all("script")
    assert "default-src 'none'" in page.all("meta")[2]["content"]
    assert not any("http-equiv" in meta and meta["http-equiv"] == "refresh" for meta in page.all("meta"))


def test_a_report_can_be_read_aloud(page):
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("table") and len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in cell for cell in page.all("th"))
    assert all("alt" in image for image in page.all("img"))


def test_captions_cannot_run(page):
    assert TRAP in page.words  # shown as it is written


@pytest.mark.parametrize(
    ("device", "message"),
    [("warp", r"--device = 'warp' is not a device"), ("cuda:99", r"--device = 'cuda:99' is cuda:99, but this machine")],
)
def test_a_report_on_a_device_that_is_not_there_is_refused_before_anything_is_read(tmp_path, device, message):
    with pytest.raises(UserError, match=message):
        report.write_report(tmp_path, device=device)


def test_a_report_tells_the_run(page, run_dir):
    for said in ("micro, seed 0", "60 of 60", "completed", "commit 0123456789", "negative: unchanged 12",
                 "60.0 [55.0, 65.0]", "zero_shot:cifar10", "50.0 [49.0, 51.0]", "a boat on the sea",
                 "painted pictures", f"{STEPS * 256} seen"):  # fmt: skip
        assert said in page.words, said


def test_a_report_of_a_run_that_has_nothing_yet(tmp_path):
    folder = make_run(tmp_path / "run")
    for file in [*folder.glob("*.jsonl"), folder / "analysis.json", folder / "gallery.safetensors"]:
        file.unlink()
    words = Page(report.write_report(folder).read_text()).words
    for said in (
        "No checkpoint of a trained model",
        "No picture was kept",
        "Fewer than two",
        "polygen-stream analyze run",
    ):
        assert said in words
    with pytest.raises(UserError, match="is no run folder"):
        report.write_report(tmp_path)


def test_a_report_has_the_tasks_of_the_run_by_step_and_no_micro_suite_in_another_world(tmp_path):
    folder = in_another_world(tmp_path / "run", 0, 0.4)
    page = Page(report.write_report(folder).read_text())
    assert TASK in page.words and "40.0 [38.0, 42.0]" in page.words
    plots = [image["aria-describedby"] for image in page.all("img") if "aria-describedby" in image]
    assert "about-tasks" in plots and not {"about-scores", "about-against", "about-edits"} & {*plots}
    assert f"{TASK}, acc1: 40.0 % at step {STEPS}" in page.words
    assert "unseen" not in page.words and "No checkpoint of a trained model" not in page.words

    later = {"acc1": {"score": 0.5, "low": 0.4, "high": 0.6, "n": 9, "chance": None}}
    (folder / "evaluations").mkdir()
    (folder / "evaluations" / f"step_{STEPS:06d}.json").write_text(json.dumps({"scores": {"pairs:/t.tsv": later}}))
    assert read_run_data(folder).tables.keys() == {TASK, "pairs:/t.tsv"}, "beside those of `evaluate`"


def test_a_report_of_a_run_without_tasks_says_so(tmp_path):
    words = Page(report.write_report(in_another_world(tmp_path / "run", 0, None)).read_text()).words
    assert "There are no scores: captions.bank = 'english' has no test set of its own" in words


def test_neighbours_are_the_most_similar_pictures(run_dir):
    run = read_run_data(run_dir)
    found = report._neighbours(run, ["a red house"])
    encoder = report.load_encoder(str(run_dir))
    images, about = run.gallery.positives()
    cosine = (encoder.texts(["a red house"]) @ encoder.images(images).T).numpy()[0]
    best = np.argsort(-cosine)[:6]
    assert [tile.note.split()[0] for tile in found[0].tiles] == [f"{c:.2f}" for c in cosine[best]]
    assert [tile.alt.split(": ", 1)[1] for tile in found[0].tiles] == [about[i][1] for i in best]


def test_a_gallery_comes_back_as_it_was(run_dir, tmp_path):
    first = gallery.load(run_dir / "gallery.safetensors")
    gallery.save(first, tmp_path / "again.safetensors")
    again = gallery.load(tmp_path / "again.safetensors")
    assert again.generators == first.generators
    for one, other in zip(first.samples, again.samples, strict=True):
        assert (one.caption, one.negative) == (other.caption, other.negative)
        for a, b in ((one.positives, other.positives), (one.negatives, other.negatives)):
            assert [g for g, _ in a] == [g for g, _ in b]
            assert all((x == y).all() for (_, x), (_, y) in zip(a, b, strict=True))
    (tmp_path / "other").write_bytes(b"no gallery")
    assert gallery.load(tmp_path / "other") is None


def test_smoothing_keeps_a_constant_and_a_straight_line():
    assert smooth(np.full(80, 3.0)) == pytest.approx(np.full(80, 3.0))
    line = np.arange(200.0)
    assert smooth(line)[20:-20] == pytest.approx(line[20:-20])


def about_the_loss(run, losses, shares) -> str:
    lines = [{**run.metrics[0], "step": i, "loss": loss, "p": shares[i]} for i, loss in enumerate(losses)]
    return next(plot.about for plot in training_plots(replace(run, metrics=lines)) if plot.key == "loss")


def test_the_loss_is_said_to_go_where_it_goes(run_dir):
    run, same = read_run_data(run_dir), [0.25] * 30
    falls = about_the_loss(run, np.linspace(5, 3, 30), same)
    assert falls.startswith("The loss falls from 4.9") and "minimum" not in falls and "comparable" not in falls
    rises = about_the_loss(run, np.linspace(3, 5, 30), np.linspace(0, 0.5, 30))
    assert rises.startswith("The loss rises from 3.0") and "minimum" not in rises
    assert "not comparable while the share of hard negatives changes (0.00 to 0.50)" in rises
    valley = about_the_loss(run, abs(np.linspace(-2, 2, 31)) + 2, [0.25] * 31)
    assert re.match(r"The loss is 3\.\d\d at the start and after 31 steps; its minimum is 2\.\d\d, at step 15 ", valley)


def test_the_wait_for_the_first_batch_is_told_apart(run_dir):
    run = read_run_data(run_dir)
    late = replace(run, metrics=[{**run.metrics[0], "wait_s": 18.0}, *run.metrics[1:]])
    [said] = [plot.about for plot in training_plots(late) if plot.key == "waiting"]
    assert "The trainer waited 18.0 s for the first batch." in said and "trainer 10 %" in said


def test_the_report_has_the_settings_that_are_the_runs_own(page):
    assert f"train.steps = {STEPS}" in page.words
    assert "train.batch = " not in page.words, "which is the preset's"
