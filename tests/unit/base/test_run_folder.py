"""Every path of a run folder has one name."""

from __future__ import annotations

from pathlib import Path

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder

PATHS = [name for name, member in vars(RunFolder).items() if isinstance(member, property)]


def test_paths_lie_in_the_folder_and_none_has_two_names():
    run = RunFolder(Path("/runs/x"))
    paths = [getattr(run, name) for name in PATHS]
    assert all(path.parent == run.path for path in paths)
    assert len({*paths}) == len(paths) > 15
    assert run.checkpoint(200) == Path("/runs/x/checkpoints/step_000200")
    assert run.evaluation(200) == Path("/runs/x/evaluations/step_000200.json")


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=rf"^{tmp_path} is no run folder \(it has no config.toml\): name the folder"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.toml").touch()
    assert RunFolder.open(tmp_path) == RunFolder(tmp_path)
    assert str(RunFolder(tmp_path)) == str(tmp_path), "for messages"
