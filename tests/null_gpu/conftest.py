"""The rehearsals: every test here starts programs on null GPUs, and what they measured is printed as a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import null_gpu
import pytest

from polygen_stream.base.errors import UserError

ROWS: list[tuple[str, ...]] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            assert item.get_closest_marker("rehearsal"), f"{item.path} lacks the marker"


@pytest.fixture(autouse=True, scope="session")
def compiled() -> Path:
    try:
        return null_gpu.library()
    except UserError as problem:
        pytest.exit(str(problem), returncode=1)  # said once: no test here can run


@pytest.fixture(scope="session")
def record() -> Callable[..., None]:
    """record(what, measured, planned): a row of the table."""

    def add(what: str, measured: object, planned: object = "") -> None:
        row = (what, str(measured), str(planned))
        if row not in ROWS:
            ROWS.append(row)

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        terminalreporter.section("rehearsed on null GPUs")
        for row in (("what", "measured", "planned"), ("---", "---", "---"), *ROWS):
            terminalreporter.line(f"| {' | '.join(row)} |")
