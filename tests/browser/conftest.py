from __future__ import annotations

from pathlib import Path


def pytest_addoption(parser):
    parser.addoption("--report", type=Path, help="a report to look at besides those of the tests: RUN/report.html")
