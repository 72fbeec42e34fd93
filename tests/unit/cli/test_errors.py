"""Every mistake a user can make on the command line ends in one line that says what to do, and exit code 2."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import one_line_error

ENGLISH = ["--captions.bank", "english", "--captions.writer", "w", "--captions.editor", "e", "--captions.concepts"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "bad.toml"], ["bad.toml", "unknown key train.stesp", "train.steps"]),
        (["run", "type.toml"], ["type.toml", "train.steps", "'many'", "an integer"]),
        (["run", "syntax.toml"], ["syntax.toml", "not valid TOML", "line 1"]),
        (["run", "bytes.toml"], ["bytes.toml", "UTF-8"]),
        (["run", "nosuch.toml"], ["nosuch.toml", "does not exist", "micro"]),
        (["run", "folder"], ["folder is a folder", "micro"]),
        (["run", "--generators.recipes", "micro/sd9"], ["unknown generator 'micro/sd9'", "micro/sana", "micro/sd15"]),
        (["run", "--train.steps", "few"], ["--train.steps", "'few'", "an integer"]),
        (["run", "--train.steps"], ["--train.steps has no value"]),
        (["run", "--train.steps", "--dry-run"], ["--train.steps has no value"]),
        (["run", "--dryrun"], ["unknown option --dryrun", "--dry-run"]),
        (["run", "micro", "again"], ["unexpected argument 'again'"]),
        (["run", "-v"], ["unexpected argument '-v'"]),
        (["run", "--run-dir"], ["--run-dir"]),
        (["run", "--run-dir", "full"], ["full", "not empty", "--run-dir"]),
        (["run", "--run-dir", "bad.toml"], ["bad.toml", "is a file", "--run-dir"]),
        (["run", "--run-dir", "bad.toml/below"], ["bad.toml/below", "--run-dir"]),
        (["run", *ENGLISH, "nosuch.json"], ["nosuch.json", "No such file"]),
        (["run", *ENGLISH, "object.json", "--dry-run"], ["object.json", "JSON object", "list of strings"]),
        (["run", *ENGLISH, "latin.json"], ["latin.json", "UTF-8"]),
        (["run", "--captions.axes", "smell"], ["captions.axes", "'smell'", "replace_colour"]),
        (["run", "--ring.slots", "4000000000"], ["MiB", "available", "ring.slots"]),
        (["run", "--ring.slots", "4000000000", "--dry-run"], ["MiB", "available", "ring.slots"]),
        (["run", "--gpus", "8"], ["--gpus 8", "--dry-run"]),
        (["run", "--dry-run", "--gpus", "many"], ["--gpus many", "8xH100-80G"]),
        (["plan", "--gpus", "8", "--rates", "nosuch.json"], ["there is no --rates file nosuch.json"]),
        (["plan", "--gpus", "8", "--steps", "9", "--images", "9"], ["two budgets"]),
        (["run", "--run-dir", "x" * 300], ["File name too long", "x" * 300]),
        (["run", "--launch.captioner_python", "nosuchpy"], ["launch.captioner_python nosuchpy"]),
        (["evaluate", "micro", "--tasks", ","], ["--tasks ','", "names none"]),
        (["experiment", "table1", "--out", "bad.toml"], ["--out bad.toml: ", "is a file: name a folder"]),
        (["experiment", "table1", "--pools", "bad.toml/x"], ["--pools bad.toml/x: ", "is a file: name a folder"]),
        (["experiment", "table1", "--out", "folder"], ["folder/table1.csv is not a result table", "first line"]),
        (
            ["run", "--evaluate.tasks", "transfer", "--dry-run"],
            ["there is no folder ", "`polygen-stream fetch-pictures "],
        ),
        pytest.param(
            ["evaluate", "micro", "--json", "folder"],
            ["cannot write folder: it is a folder"],
            marks=pytest.mark.extended,
        ),  # imports torch and scikit-learn
        pytest.param(
            ["evaluate", "micro", "--device", "warp"], ["--device = 'warp' is not a device"], marks=pytest.mark.extended
        ),
        (["bench", "generators", "--backends", "eager,foo"], ["no engine backend 'foo'", "openvino-bf16"]),
        (["bench", "generators", "--batches", "0,4"], ["--batches 0,4", "at least one image"]),
        (["train"], ["No such command 'train'"]),
        (["doctor", "--jsno"], ["--jsno"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("run", "train", "doctor") else "",
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, cli, words, parts):
    (tmp_path / "bad.toml").write_text("[train]\nstesp = 3\n")
    (tmp_path / "type.toml").write_text("[train]\nsteps = 'many'\n")
    (tmp_path / "syntax.toml").write_text("[train\n")
    (tmp_path / "bytes.toml").write_bytes(b"name = '\xff'\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "table1.csv").write_text("no table\n1\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "summary.json").write_text("{}")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "latin.json").write_bytes(b'["caf\xe9"]')
    before = sorted(tmp_path.rglob("*"))
    line = one_line_error(cli(*words))
    assert all(part in line for part in parts), line
    assert sorted(tmp_path.rglob("*")) == before  # a refused run leaves nothing


@pytest.mark.extended  # starts a process
def test_a_process_ends_as_the_function_does(tmp_path):
    words = [sys.executable, "-m", "polygen_stream", "run", "--train.steps", "few"]
    line = one_line_error(subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120))
    assert "--train.steps = 'few', expected an integer" in line


def test_a_run_that_lacks_weights_engines_and_gpus_lists_the_commands_and_starts_nothing(tmp_path, cli):
    done = cli("run", "node_8gpu")
    line = one_line_error(done)
    assert line.startswith("error: node_8gpu cannot run here yet: captions.concepts bank.json: No such file; weights: ")
    commands = [text.strip() for text in done.stdout.splitlines() if text.startswith("    ")]
    for command in (
        "polygen-stream concepts build --out bank.json --drawable",
        "polygen-stream fetch node_8gpu --accept-license sai-nc-community",
        "polygen-stream build-engines sd15 sd2 sana sdxl_turbo --backend tensorrt",
    ):
        assert command in commands, done.stdout
    assert not list(tmp_path.iterdir())


def test_a_plan_for_another_machine_needs_nothing_of_this_one(tmp_path, cli):
    done = cli("run", "node_8gpu", "--dry-run", "--gpus", "8xH100-80G")
    assert done.returncode == 0 and not done.stderr, done
    done = cli("plan", "--gpus", "8", "node_8gpu")
    assert done.returncode == 0 and "the trainer waits" in done.stdout, done


def test_dry_run_prints_the_plan_and_leaves_nothing(tmp_path, cli):
    done = cli("run", "--dry-run", "--train.steps", "200", "--generators.recipes", "micro/sd15,micro/sana")
    assert done.returncode == 0 and not done.stderr, done
    for part in ("trainer", "renderer micro/sd15", "renderer micro/sana", "captioner", "evaluator", "200 steps"):
        assert part in done.stdout, done.stdout
    assert "micro/sd2" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_config_may_stand_anywhere_between_the_options(tmp_path, cli):
    (tmp_path / "mine.toml").write_text("name = 'mine'\n")
    for words in (
        ["mine.toml", "--train.steps", "123", "--dry-run"],
        ["--train.steps", "123", "mine.toml", "--dry-run"],
        ["--dry-run", "--train.steps=123", "mine.toml"],
    ):
        done = cli("run", *words)
        assert done.returncode == 0 and "mine: seed 0" in done.stdout and "123 steps" in done.stdout, done


def test_version_names_what_it_stands_on(tmp_path, cli):
    done = cli("version")
    assert done.returncode == 0 and done.stdout.startswith("polygen-stream ") and "torch " in done.stdout
