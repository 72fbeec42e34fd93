"""The report of a run, the comparison of runs, and the page during a run: what they hold, and that they stand alone."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from run_folders import STEPS, TRAP, make_run
from small_rings import open_pair, open_plain, render
from typer.testing import CliRunner

from polygen_stream.base.errors import UserError
from polygen_stream.cli import app
from polygen_stream.config import dump_config, load_config
from polygen_stream.evaluate.micro_suite import chance
from polygen_stream.launch.process_plan import build_process_plan, dashboard_port
from polygen_stream.report import dashboard, gallery, report
from polygen_stream.report.compare import comparison_page
from polygen_stream.report.page import run_page
from polygen_stream.report.plots import smooth, training_plots
from polygen_stream.report.ring_view import view_ring
from polygen_stream.report.run_data import read_run_data
from polygen_stream.ring import DrawRequest
from polygen_stream.ring.snapshot import save_snapshot


class Page(HTMLParser):
    """What a test asks about a page."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.headings: list[tuple[str, str]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append((self._open[-1], data))
        if self._open and self._open[-1] != "style":
            self.words += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "first")
    scores = {"zero_shot:cifar10": {"acc1": {"score": 0.5, "low": 0.49, "high": 0.51, "n": 10000, "chance": 0.1}}}
    (folder / "evaluations").mkdir()
    (folder / "evaluations" / f"step_{STEPS:06d}.json").write_text(json.dumps({"model": {}, "scores": scores}))
    return folder


@pytest.fixture
def ring(new_ring):
    """Ten captions, some with a negative, drawn a few times."""
    ring = new_ring(image_shape=(32, 32, 3))
    for task in range(6):
        open_pair(ring, task) if task % 2 else open_plain(ring, task)
        render(ring)
    for step in range(4):
        ring.release(ring.draw(DrawRequest(step, 3, 1), timeout_s=1.0))
    return ring


@pytest.fixture
def page(run_dir, ring) -> Page:
    save_snapshot(ring, run_dir / "ring.safetensors", payload=False)
    text = report.write_report(run_dir, ["a red house", "a boat on the sea"]).read_text(encoding="utf-8")
    assert len(text) < 10_000_000
    return Page(text)


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


ENGLISH = {"captions.source": "my:source", "captions.bank": "english"}
TASK = "zero_shot:/data/pets"


def in_another_world(folder: Path, seed: int, acc1: float | None) -> Path:
    """A run whose captions are not of the micro world, scored on one task or none."""
    make_run(folder, seed)
    dump_config(load_config(None, ENGLISH | ({} if acc1 is None else {"evaluate.tasks": TASK})), folder / "config.toml")
    lines = []
    for step, score in ((0, 0.02), (STEPS, acc1)):
        if score is not None and acc1 is not None:
            scores = {"score": score, "low": score - 0.02, "high": score + 0.02, "n": 500, "chance": 0.027}
            lines.append({"step": step, "final": step > 0, "metrics": {}, "intervals": {}, "chance": {},
                          "tasks": {TASK: {"acc1": scores}}, "failed": {}})  # fmt: skip
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


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


def test_runs_with_all_five_tasks_are_compared_over_these(tmp_path):
    """Two datasets of one task count once, and what is none of the five does not count."""
    runs = []
    for i, value in enumerate((0.4, 0.5)):
        run = read_run_data(in_another_world(tmp_path / f"run-{i}", i, value))
        one = {"score": value, "low": value - 0.01, "high": value + 0.01, "n": 100, "chance": 0.1}
        same = one | {"score": 0.4}
        tables = {
            "zero_shot:a": {"acc1": one, "acc5": same},
            "zero_shot:b": {"acc1": one},
            "linear_probe:a": {"acc1": same},
            "few_shot:a": {"5_shot": same},
            "retrieval:a": {"i2t_r1": same, "i2t_r5": one, "t2i_r1": one},
            "sugarcrepe": {"mean": one},
        }
        runs.append(replace(run, tables=tables))
    page = Page(comparison_page(runs))
    assert "over SynthCLIP's five tasks;" in page.words
    assert "+10.0 [" in page.words  # two of five tasks rise by 25 %
    assert "sugarcrepe mean" in page.words


def test_runs_in_another_world_are_compared_by_their_tasks(tmp_path):
    runs = [read_run_data(in_another_world(tmp_path / f"run-{i}", i, 0.4 + 0.1 * i)) for i in range(2)]
    page = Page(comparison_page(runs))
    assert "+25.0 [" in page.words and "zero shot things" not in page.words


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


def test_a_look_at_a_ring_takes_no_picture_that_was_overwritten(ring):
    seen = view_ring(ring)
    slots = seen.groups[0].positive_slots
    assert set(seen.read(slots)) == set(slots)
    ring._control.columns.payload[slots[0]] ^= 1  # as a renderer that reused the slot would
    assert set(seen.read(slots)) == set(slots[1:])


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


def test_runs_are_compared_with_the_first(run_dir, tmp_path):
    folders = [make_run(tmp_path / f"run-{i}", seed=i, score=0.4 + 0.1 * i) for i in range(2)]
    result = CliRunner().invoke(app, ["report", *map(str, folders), "--out", str(tmp_path / "all.html")])
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "all.html").read_text())
    # 0.5 against 0.4 in each of three tasks; colours and composition stand apart.
    assert "+25.0 [" in page.words
    assert "over 3 of SynthCLIP's five tasks: zero-shot, image-to-text R@1, text-to-image R@1;" in page.words
    low, high = map(float, re.search(r"\+25\.0 \[([+-][\d.]+), ([+-][\d.]+)\]", page.words).groups())
    # each score's interval is +-0.05: the mean of three ratios of 0.5 to 0.4 has a standard error of 5.9 %
    assert (low, high) == pytest.approx((25 - 11.6, 25 + 11.6), abs=2.5)
    assert [tag for tag, _ in page.headings].count("h1") == 1
    assert "seconds in all" in page.words and page.words.count("61") >= 2 and "trainer waited since then" in page.words
    with pytest.raises(UserError, match="there is no folder"):
        CliRunner().invoke(app, ["report", *map(str, folders), "--out", "/nowhere/x.html"], catch_exceptions=False)
    (folders[1] / "eval.jsonl").unlink()
    with pytest.raises(UserError, match="no evaluation of a trained model"):
        CliRunner().invoke(app, ["report", *map(str, folders)], catch_exceptions=False)


TRANSFER = {"score": 0.25, "low": 0.21, "high": 0.29, "n": 432, "chance": 1 / 24}


def change_evaluations(folder: Path, change) -> None:
    lines = [json.loads(line) for line in (folder / "eval.jsonl").read_text().splitlines()]
    for line in lines:
        change(line)
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_composition_and_transfer_are_shown_and_move_no_delta(tmp_path):
    """Delta_MTL does not depend on which machine had the pictures of `transfer`."""
    runs = []
    for i, acc1 in enumerate((0.25, 0.5)):
        folder = make_run(tmp_path / f"run-{i}", seed=i, score=0.4)

        def change(line, i=i, acc1=acc1):
            line["tasks"] = {"transfer": {"acc1": TRANSFER | {"score": acc1}}}
            line["metrics"]["micro_sugarcrepe_pp_itt"] = 0.3 + 0.1 * i

        change_evaluations(folder, change)
        runs.append(read_run_data(folder))
    words = Page(comparison_page(runs)).words
    for shown in ("transfer acc1", "25.0 [21.0, 29.0]", "50.0 [21.0, 29.0]", "micro SugarCrepe++ ITT", "40.0 [35.0"):
        assert shown in words, shown
    assert "+0.0 [" in words
    own = Page(report.write_report(runs[0].folder).read_text()).words
    for shown in ("transfer", "25.0 [21.0, 29.0]", "micro SugarCrepe++ ITT 30.0 %", "micro SugarCrepe++ TOT 40.0 %"):
        assert shown in own, shown
    assert "ITT asks that" in own


def test_evaluations_of_earlier_versions_are_shown_without_micro_sugarcrepe_pp(tmp_path):
    folder = make_run(tmp_path / "run")
    names = [name for name in chance() if name.startswith("micro_sugarcrepe_pp")]

    def change(line):
        for part in (line["metrics"], line["intervals"], line["chance"]):
            for name in names:
                part.pop(name)

    change_evaluations(folder, change)
    page = Page(report.write_report(folder).read_text())
    assert "compositional 60.0 %" in page.words and "SugarCrepe++" not in page.words and "ITT" not in page.words
    both = Page(comparison_page([read_run_data(folder), read_run_data(make_run(tmp_path / "new", 1))]))
    assert "compositional" in both.words and "SugarCrepe++" not in both.words


def test_correlations_appear_from_four_runs_on(run_dir):
    runs = [read_run_data(run_dir)] * 4
    assert "at least 4 runs" in comparison_page(runs)


def test_the_dashboard_serves_this_machine_alone(run_dir, ring, monkeypatch):
    context = SimpleNamespace(ring=ring, run_dir=run_dir, stopping=False)
    port = dashboard_port(0)
    monkeypatch.setenv(dashboard.PORT_VARIABLE, str(port))
    monkeypatch.setattr(os, "nice", lambda by: by)  # of the test process
    thread = threading.Thread(target=dashboard.main, args=(context,), daemon=True)
    thread.start()

    def get(path: str = "/", host: str = f"127.0.0.1:{port}"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
        for _ in range(50):
            try:
                return urllib.request.urlopen(request, timeout=120)
            except urllib.error.HTTPError as answer:
                return answer
            except urllib.error.URLError:  # not listening yet
                time.sleep(0.1)
        raise AssertionError("nobody listens")

    answer = get()
    page = Page(answer.read().decode())
    assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store"
    assert {"http-equiv": "refresh", "content": "15"} in page.all("meta")
    assert "caption 1" in page.words and "negative 1" in page.words  # out of the ring
    assert get(host="rebound.example:80").status == 403
    assert get("/etc/passwd").status == 404
    context.stopping = True
    thread.join(10)
    assert not thread.is_alive()


def test_the_dashboard_is_a_process_of_the_run_when_asked_for():
    from polygen_stream.config import load_config

    config = load_config()
    assert not build_process_plan(config).with_role("dashboard")
    [process] = build_process_plan(config, dashboard_port=8089).with_role("dashboard")
    assert process.env[dashboard.PORT_VARIABLE] == "8089"
    assert 0 < dashboard_port(0) < 65536


def test_counts_are_those_of_the_ring_and_say_what_they_count(run_dir, ring):
    """The last line of the metrics has 336 images; the ring, another run's, 18."""
    after = Page(run_page(read_run_data(run_dir, view_ring(ring).inspection))).words
    assert "18 rendered, " in after and "24 tasks written or dropped, 6 captions with all their images" in after
    assert f"{STEPS} s from the trainer's start to its last logged step" in after
    assert "336 images rendered until the last step" in after


def test_a_page_during_a_resumed_run_does_not_show_the_earlier_attempts_end(run_dir, ring, tmp_path):
    run_dir = shutil.copytree(run_dir, tmp_path / "run")
    (run_dir / "summary.json").write_text(json.dumps({"status": "interrupted", "seconds": 12.0}))
    assert "interrupted" in Page(run_page(read_run_data(run_dir))).words
    assert "interrupted" not in Page(run_page(read_run_data(run_dir, view_ring(ring).inspection))).words


def test_a_live_page_needs_no_checkpoint(run_dir, ring):
    seen = view_ring(ring)
    page = Page(run_page(read_run_data(run_dir, seen.inspection), refresh_s=15))
    assert "live" in page.words and "Nearest pictures" not in page.words
