"""Fixtures for tests of the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from command_line import Done

from polygen_stream.cli import main


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> Callable[..., Done]:
    """Runs the entry point as the console script does, in this process: a new one imports for seconds."""

    def run(*words: str) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["polygen-stream", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, ended.value.code, said.out, said.err)

    return run
