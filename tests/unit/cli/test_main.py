"""What the command line as a whole does: help in groups, light imports, errors with a traceback within reach."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from polygen_stream import cli
from polygen_stream.cli.entry import GROUPS
from polygen_stream.config.keys import sections

# What makes an import slow: none of it is needed to read a command line.
SLOW = {
    "torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "PIL", "pydantic", "huggingface_hub", "transformers",
    "diffusers", "open_clip", "rich", "psutil", "tomli_w",
}  # fmt: skip


@pytest.mark.extended  # starts a process
def test_importing_the_command_line_loads_typer_and_nothing_slow():
    code = (
        "import sys, polygen_stream.cli; "
        "print(*{name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"typer", "polygen_stream"} <= loaded
    assert not loaded & SLOW


def test_help_shows_every_command_in_its_group():
    shown = CliRunner().invoke(cli.app, ["--help"], terminal_width=100).stdout
    titles = re.findall("─ ([A-Z][a-z ]+) ─", shown)
    assert titles == ["Options", *GROUPS]
    panels = dict(zip(titles, re.split("─ [A-Z][a-z ]+ ─", shown)[1:], strict=True))
    for group, commands in GROUPS.items():
        assert re.findall("^│ ([a-z-]+)", panels[group], re.M) == list(commands)


def test_help_of_run_leads_to_the_keys():
    text = get_command(cli.app).commands["run"].help
    assert all(re.search(rf"\b{name}\b", text) for name in sections())
    assert "`polygen-stream config`" in text


def test_every_option_has_a_help_text():
    def walk(command):
        yield from ((command.name, param) for param in command.params)
        for inner in getattr(command, "commands", {}).values():
            yield from walk(inner)

    for name, param in walk(get_command(cli.app)):
        if param.param_type_name == "option":
            assert param.help and param.help.endswith((".", ")")), (name, param.opts)


def failed(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["polygen-stream", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


def test_an_error_about_a_file_keeps_its_traceback_in_a_log_that_the_line_names(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, text = failed(monkeypatch, capsys, "run", "--run-dir", "x" * 300)
    assert code == 2
    found = re.fullmatch(rf"error: File name too long: \S*{'x' * 300} \(traceback: (\S+\.log)\)\n", text)
    assert found, text
    log = Path(found[1]).read_text()
    assert log.startswith("polygen-stream run --run-dir ")
    assert "Traceback (most recent call last)" in log and "OSError: [Errno 36]" in log


@pytest.mark.parametrize("words", [("run", "--run-dir", "x" * 300), ("run", "--train.stesp", "3"), ("run", "--resume")])
def test_the_variable_prints_the_traceback_instead(monkeypatch, capsys, tmp_path, words):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("POLYGEN_STREAM_TRACEBACK", "1")
    code, text = failed(monkeypatch, capsys, *words)
    assert code == 2
    assert text.startswith("Traceback (most recent call last)")
    assert text.splitlines()[-1].startswith("error: ") and "traceback:" not in text
    assert not list(tmp_path.iterdir())


def test_where_no_log_can_be_written_the_line_names_the_variable(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    code, text = failed(monkeypatch, capsys, "run", "--run-dir", "x" * 300)
    assert code == 2
    assert text.endswith("(POLYGEN_STREAM_TRACEBACK=1 prints the traceback)\n")


def test_an_error_without_a_file_is_no_mistake_of_the_user(monkeypatch, capsys):
    def broken(*_: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("polygen_stream.launch.replay.replay_of", broken)
    monkeypatch.setattr("sys.argv", ["polygen-stream", "replay", "runs/x"])
    with pytest.raises(OSError, match="Cannot allocate memory"):
        cli.main()


def test_renamed_options_of_commands_without_overrides(monkeypatch, capsys):
    for words, old, new in (
        (["audit", "generators", "--pictures", "28"], "--pictures", "--images"),
        (["audit", "generators", "--picture=x.png"], "--picture", "--plot"),
        (["bench", "ring", "--peers"], "--peers", "--baselines"),
    ):
        assert failed(monkeypatch, capsys, *words) == (2, f"error: option {old} has been renamed: write {new}\n")
