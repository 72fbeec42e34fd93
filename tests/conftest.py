"""Fixtures for all tests. Helpers are modules of tests/helpers, which pyproject.toml puts on the path."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from small_rings import ring_maker

# Of the task `transfer`: runs of tests are not to find what a developer has fetched.
os.environ["POLYGEN_STREAM_PICTURES"] = os.path.join(os.devnull, "pictures")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts runs and kills processes is `make test-all`'s, except the tests that are marked `quick`."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in ("faults", "integration") and not item.get_closest_marker("quick"):
            item.add_marker("extended")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.fail(
                f"torch {torch.__version__} sees no CUDA device: `polygen-stream doctor` says why", pytrace=False
            )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Say how a worker of xdist ended: that a signal killed it is said nowhere else."""
    if error:
        try:
            code = node.gateway._io.popen.wait(timeout=10)
            how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except (AttributeError, ValueError, subprocess.TimeoutExpired) as problem:
            how = f"ended, and how is not known: {problem!r}"
        node.config.get_terminal_writer().line(f"[{node.gateway.id}] {how}")


@pytest.fixture
def new_ring():
    """Makes small rings and closes them after the test. new_ring(**changes to small_spec) -> Ring."""
    with ring_maker() as make:
        yield make
