"""The built wheel carries everything a run needs and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.assets.resources import preset_names, recipe_names

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that the wheel of this tree is installed into, without its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def elsewhere(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # -P keeps the current folder off the path; PYTHONPATH comes before the editable install of the checkout.
    return subprocess.run(
        [sys.executable, "-P", "-m", "polygen_stream", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_wheel_runs_outside_the_checkout(installed, tmp_path):
    done = elsewhere(installed, tmp_path, "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "renderer micro/sana" in done.stdout

    refused = elsewhere(installed, tmp_path, "run", "--ring.slots", "1")
    preset = installed / "polygen_stream" / "_data" / "configs" / "micro.toml"
    assert str(preset) in refused.stderr  # it was the wheel that answered, not the checkout


def test_the_wheel_carries_presets_recipes_weights_and_licence(installed):
    package = installed / "polygen_stream"
    for name in preset_names():
        assert (package / "_data" / "configs" / f"{name}.toml").is_file()
    for name in recipe_names():
        assert (package / "_data" / "engines" / f"{name}.toml").is_file()
    weights = ROOT / "polygen_stream" / "micro" / "weights"
    for file in (path for path in weights.rglob("*") if path.is_file()):
        assert (package / file.relative_to(ROOT / "polygen_stream")).stat().st_size == file.stat().st_size
    assert list(installed.glob("polygen_stream-*.dist-info/licenses/LICENSE"))


def test_the_wheel_carries_nothing_else(installed):
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top <= {"polygen_stream", "bin"}
