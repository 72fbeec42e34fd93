from __future__ import annotations

import pytest
from launched import toy


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
