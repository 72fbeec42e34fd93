"""The page during a run: who is served, what it counts, and how it looks into the ring."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

from html_page import Page
from run_folders import STEPS

from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import build_process_plan, dashboard_port
from polygen_stream.report import dashboard
from polygen_stream.report.page import run_page
from polygen_stream.report.ring_view import view_ring
from polygen_stream.report.run_data import read_run_data


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
    config = load_config()
    assert not build_process_plan(config).with_role("dashboard")
    [process] = build_process_plan(config, dashboard_port=8089).with_role("dashboard")
    assert process.env[dashboard.PORT_VARIABLE] == "8089"
    assert 0 < dashboard_port(0) < 65536


def test_a_look_at_a_ring_takes_no_picture_that_was_overwritten(ring):
    seen = view_ring(ring)
    slots = seen.groups[0].positive_slots
    assert set(seen.read(slots)) == set(slots)
    ring._control.columns.payload[slots[0]] ^= 1  # as a renderer that reused the slot would
    assert set(seen.read(slots)) == set(slots[1:])


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
