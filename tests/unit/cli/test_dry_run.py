"""What a start would refuse, `run --dry-run` refuses in the same words; neither leaves anything."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from command_line import one_line_error
from own_recipe import own_recipe
from transfer_pictures import paint_pictures

EAGER = ("--generators.recipes", "micro/sd15", "--generators.backend", "eager")


@pytest.fixture
def taken_port():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield str(holder.getsockname()[1])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--train.model", "ViT-B-33"], "train.model = 'ViT-B-33' is not a model open_clip knows"),
        (["--captions.writer", "package:nobody"], "captions.writer package:nobody: config.json is missing in"),
        (["--captions.editor", "./nowhere"], "captions.editor ./nowhere: config.json is missing in ./nowhere"),
        (["--captions.editor", "half"], "captions.editor half: *.safetensors is missing in half"),
        (["--ring.image_size", "64"], "renders 32x32, and 64x64 is asked for"),
        (["--generators.recipes", "mine.toml"], "generator mine: unet is missing in"),
        (["--train.objective", "no_such_module:loss"], "there is no module 'no_such_module'"),
        (["--synthesis.policy", "no_such_module:policy"], "there is no module 'no_such_module'"),
        (["--generators.remote", "auto"], "generators.remote = 'auto' needs Ray"),
        (["--launch.captioner_python", "nosuchpy"], "launch.captioner_python nosuchpy"),
        (["--source", "shards:nowhere"], "no such folder"),
        (["--source", "shards:dead"], "0.tar is no file, or a link to none"),
        (["--record-shards", "full"], "full is not empty, and this run did not write it"),
        (["--record-shards", "file"], "file is a file"),
        (["--run-dir", "file/below"], "cannot make run folder"),
        (["--captions.source", "openai", "--captions.endpoint", "http://127.0.0.1:9/v1"], "no server answers"),
        pytest.param(
            ["--evaluate.tasks", "zero_shot:cifar10"],
            "evaluate.tasks: cifar10 is no folder or file here: if it is a",
            marks=pytest.mark.extended,  # imports torch, in two processes
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_start_refuses_a_dry_run_refuses(tmp_path: Path, cli, monkeypatch, words, part):
    monkeypatch.setattr("polygen_stream.launch.own_parts._has_package", lambda python, package: package != "ray")
    own_recipe(tmp_path)
    shutil.rmtree(tmp_path / "weights" / "unet")
    for folder in ("full", "dead", "half"):
        (tmp_path / folder).mkdir()
    for file in ("full/x", "file", "half/config.json", "half/tokenizer_config.json"):
        (tmp_path / file).write_text("{}")
    (tmp_path / "dead" / "0.tar").symlink_to("/nowhere.tar")
    before = sorted(tmp_path.rglob("*"))
    start = one_line_error(cli("run", *words))
    assert part in start
    assert one_line_error(cli("run", *words, "--dry-run")) == start
    assert sorted(tmp_path.rglob("*")) == before


def test_a_port_that_is_taken_is_refused_by_both(cli, taken_port):
    words = ("--launch.prometheus_port", taken_port)
    start = one_line_error(cli("run", *words))
    assert f"127.0.0.1:{taken_port} cannot be had" in start
    assert one_line_error(cli("run", *words, "--dry-run")) == start


def test_a_plan_for_another_machine_asks_nothing_of_this_one(cli):
    words = ("--captions.source", "openai", "--captions.endpoint", "http://127.0.0.1:9/v1")
    done = cli("run", *words, "--dry-run", "--gpus", "1")
    assert (done.returncode, done.stderr) == (0, ""), done


def test_the_captions_of_a_plan_are_the_most_and_a_warm_up_beyond_the_end_is_told(cli):
    plan = cli("run", *EAGER, "--train.steps", "20", "--captions.target", "400", "--dry-run").stdout
    assert "at most 400 captions x " in plan and "at least " in plan.partition("caption draws, ")[2]
    assert "warning:" in plan and "train.warmup = 50 is more than train.steps = 20: the learning rate rises to" in plan
    assert "warning" not in cli("run", *EAGER, "--train.steps", "50", "--dry-run").stdout


@pytest.mark.extended  # imports diffusers, in a process
def test_a_class_that_diffusers_does_not_have_is_found_without_loading_weights(tmp_path, cli):
    file = own_recipe(tmp_path)
    file.write_text(file.read_text().replace("StableDiffusionPipeline", "StableDifusionPipeline"))
    line = one_line_error(cli("run", *EAGER, "--generators.recipes", str(file), "--dry-run"))
    assert "mine.toml: diffusers has no pipeline 'StableDifusionPipeline'" in line


def test_the_plan_says_what_is_scored_and_where(cli):
    scored = cli("run", "--dry-run", "--gpus", "2", "--train.device", "cuda:1", "--evaluate.tasks", "sugarcrepe_pp_tot")
    [line] = [line for line in scored.stdout.splitlines() if line.startswith("evaluation:")]
    assert "micro, sugarcrepe_pp_tot; at step 0, every 400 steps and at the end" in line
    assert line.endswith("; when training is over: evaluator on cuda:1, report on cuda:1"), "no threads: whose cores?"
    own = ("--captions.source", "polygen_stream.captions.sources:grammar_source", "--captions.bank", "english")
    [line] = [line for line in cli("run", "--dry-run", *own).stdout.splitlines() if line.startswith("evaluation:")]
    assert "no scores: captions.bank = 'english' has no test set of its own, and evaluate.tasks names no task" in line
    assert "; when training is over: report on cpu, with " in line


def test_the_plan_says_that_pictures_which_were_fetched_are_scored(tmp_path, cli, monkeypatch):
    def scored(*words: str) -> str:
        [line] = [
            line for line in cli("run", "--dry-run", *words).stdout.splitlines() if line.startswith("evaluation:")
        ]
        return line

    assert "transfer" not in scored(*EAGER)
    monkeypatch.setenv("POLYGEN_STREAM_PICTURES", str(paint_pictures(tmp_path / "pictures")))
    whole = "micro; at step 0, every 400 steps and at the end; transfer at step 0 and at the end; when training is over"
    assert whole in scored(*EAGER)
    assert "transfer" not in scored("--gpus", "2"), "another machine has its own folder"
    own = ("--captions.source", "polygen_stream.captions.sources:grammar_source", "--captions.bank", "english")
    assert "transfer" not in scored(*EAGER, *own), "the pictures show things of the micro world"


def test_a_dry_run_says_how_captions_are_chosen(cli):
    uniform, hardest = (cli("run", "--dry-run", *words) for words in ((), ("--synthesis.policy", "hardest")))
    said = "; each caption chosen among 32 tasks by the policy hardest"
    assert hardest.returncode == 0 and said in hardest.stdout and said not in uniform.stdout
