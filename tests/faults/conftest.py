from __future__ import annotations

import pytest
from launched_runs import Launched, resumed_toy, toy
from small_rings import ring_maker


@pytest.fixture(params=["memory", "file"])
def new_ring(request, tmp_path_factory):
    """Makes small rings, in memory and with a file each, and closes them. new_ring(**changes to small_spec) -> Ring."""
    with ring_maker(tmp_path_factory.mktemp("disk") if request.param == "file" else None) as make:
        yield make


@pytest.fixture
def start_toy(tmp_path):
    """Starts toy runs and cleans up after a failed test. start_toy(*overrides, **environment) -> Launched."""
    started = []

    def start(*words: str, **environment: str):
        started.append(toy(tmp_path, *words, **environment))
        return started[-1]

    yield start
    for run in started:
        run.close()


@pytest.fixture
def resume_toy(tmp_path):
    """Goes on with a toy run, and cleans up after a failed test. resume_toy(run, **environment) -> Launched."""
    started = []

    def start(run: Launched, **environment: str):
        started.append(resumed_toy(tmp_path / f"attempt-{len(started)}", run, **environment))
        return started[-1]

    yield start
    for run in started:
        run.close()
