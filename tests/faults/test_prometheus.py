"""The page for Prometheus on a toy run: what it says, that it is on the loopback interface, and that it goes."""

from __future__ import annotations

import signal
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families


def scrape(port: int) -> dict[tuple[str, ...], float]:
    """(name without prefix, label values ...) -> value"""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    return {
        (sample.name.removeprefix("polygen_stream_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_running_run_is_scraped(start_toy):
    port = free_port()
    run = start_toy("--launch.prometheus_port", str(port), "--train.steps", "100000")
    run.wait_until(lambda: run.steps() > 10, "ten steps")
    run.process("captioner").kill()
    run.wait_until(lambda: scrape(port).get(("restarts_total", "captioner")) == 1, "the restart to be counted")
    run.wait_until(lambda: scrape(port)["steps_total",] >= 10, "a page of after the tenth step")  # once a second
    first = scrape(port)
    assert first["steps_total",] >= 10 and first["steps_planned",] == 100000
    assert (first["loss",], first["p",]) == (1.0, 0.25)
    assert first["images_total", "micro/sana"] > 0 and first["backlog", "micro/sana"] >= 0
    assert first["generator_given_up", "micro/sana"] == 0
    assert first["captions", "pair", "complete"] > 0 and first["captions_opened_total",] > 0
    assert first["process_up", "trainer"] == 1 and first["heartbeat_age_seconds", "trainer"] < 60
    assert first["busy_seconds_total", "trainer"] > 0
    run.wait_until(lambda: scrape(port)["steps_total",] > first["steps_total",], "the page to go on")
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    run.assert_nothing_left()
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_a_port_that_is_taken_is_refused_before_anything_starts(start_toy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = start_toy("--launch.prometheus_port", str(port))
        assert run.wait() == 2
    assert run.stderr == (
        f"error: launch.prometheus_port = {port}: 127.0.0.1:{port} cannot be had (Address already in use); choose "
        "another, or 0 for none\n"
    )
    assert not run.run_dir.exists()
