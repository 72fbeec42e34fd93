from __future__ import annotations

import pytest
from launched_runs import Launched, resumed_toy, toy
from small_rings import small_spec

from polygen_stream.ring import Ring


@pytest.fixture(params=["memory", "file"])
def new_ring(request, tmp_path_factory):
    """Makes small rings, in memory and with a file each, and closes them. new_ring(**changes to small_spec) -> Ring."""
    rings, folder = [], tmp_path_factory.mktemp("disk")

    def make(**changes) -> Ring:
        if request.param == "file":
            changes["storage"] = str(folder / f"{len(rings)}.ring")
        rings.append(Ring.create(small_spec(**changes), lock_timeout_s=5.0))
        rings[-1].register("test", "test")
        return rings[-1]

    yield make
    for ring in rings:
        ring.close()


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
