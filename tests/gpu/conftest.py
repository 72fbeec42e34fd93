"""A stage of `make gpu-test`: what its tests measured beside what was planned, as a table and as JSON.

`polygen-stream plan --rates` reads the JSON.
"""

from __future__ import annotations

import ctypes
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from polygen_stream.capacity.measured_rates import MeasuredRates, TrainerRate

COMPUTES_NOTHING = "a null GPU computes nothing: neither times nor values"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stage", help="Name of the stage of make gpu-test, for its table and JSON.")
    parser.addoption("--stage-json", type=Path, help="Write what the stage measured to this file.")


@dataclass
class Stage:
    """What is measured.

    Attributes:
        null_gpu: The device computes nothing (tests/null_gpu): what depends on time or on values is not measured.
        rows: What, planned (None: nothing was planned), measured.
        rates: What a plan can be made with.
    """

    null_gpu: bool = field(default_factory=lambda: hasattr(ctypes.CDLL(None), "null_gpu_counters"))
    rows: list[tuple[str, float | None, float]] = field(default_factory=list)
    rates: MeasuredRates = field(default_factory=MeasuredRates)

    def record(self, what: str, planned: float | None, measured: float) -> None:
        """Add a row to the table."""
        self.rows.append((what, planned, measured))

    def computes(self) -> None:
        """Skip the test from here on where nothing is computed."""
        if self.null_gpu:
            pytest.skip(COMPUTES_NOTHING)

    def generator_rate(self, name: str, images_per_s: float) -> None:
        """Keep a generator's rate for plans, if it is the best so far."""
        best = max(images_per_s, self.rates.generators.get(name, 0.0))
        self.rates = self.rates.model_copy(update={"generators": {**self.rates.generators, name: best}})

    def trainer_rate(self, model: str, images_per_s: float, accum_freq: int) -> None:
        """Keep a model's rate for plans."""
        rate = TrainerRate(images_per_s=images_per_s, accum_freq=accum_freq)
        self.rates = self.rates.model_copy(update={"trainer": {**self.rates.trainer, model: rate}})

    def table(self) -> list[str]:
        """Return the lines of a Markdown table."""
        lines = ["| what | planned | measured | ratio |", "| --- | ---: | ---: | ---: |"]
        for what, planned, measured in self.rows:
            shown = ("", "") if planned is None else (f"{planned:.4g}", f"{measured / planned:.2f}")
            lines.append(f"| {what} | {shown[0]} | {measured:.4g} | {shown[1]} |")
        return lines


STAGE = pytest.StashKey[Stage]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STAGE] = Stage()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.stash[STAGE].null_gpu:
        for item in items:
            if not item.path.is_relative_to(Path(__file__).parent):  # they do not ask `computes`
                item.add_marker(pytest.mark.skip(reason=COMPUTES_NOTHING))


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest) -> Stage:
    return request.config.stash[STAGE]


@pytest.fixture
def room():
    """room(GiB): skip on a GPU that has less memory to give."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()

    def needs(gib: float) -> None:
        there = torch.cuda.mem_get_info()[0] / 2**30
        if there < gib:
            pytest.skip(f"needs {gib:.0f} GiB of GPU memory, {there:.0f} are free")

    yield needs
    torch.cuda.empty_cache()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    name, stage = config.getoption("--stage", None), config.stash[STAGE]
    if not name:
        return
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    what = f"{gpu} (NULL GPU: it computes nothing, and no time was measured)" if stage.null_gpu else gpu
    terminalreporter.section(f"stage {name} on {what}")
    for line in stage.table():
        terminalreporter.line(line)
    if file := config.getoption("--stage-json", None):
        reports = terminalreporter.stats
        outcomes = Counter({each: len(reports.get(each, ())) for each in ("passed", "failed", "error", "skipped")})
        found = {
            "stage": name,
            "gpu": gpu,
            "null_gpu": stage.null_gpu,
            "torch": torch.__version__,
            "outcomes": outcomes,
            "rows": [
                {"what": what, "planned": planned, "measured": measured, "ratio": planned and measured / planned}
                for what, planned, measured in stage.rows
            ],
            **stage.rates.as_json(),
        }
        file.write_text(json.dumps(found, indent=2) + "\n")
        terminalreporter.line(f"written to {file}: polygen-stream plan --gpus N --rates {file}")
