"""What a run would start."""

from __future__ import annotations

import sys

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.checkpoints import last_checkpoint
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.launch.run_setup import choose_run_folder, create_run_folder


def test_one_renderer_per_generator_and_one_of_each_other_role():
    config = load_config(None, {"generators.recipes": "micro/sd15,micro/sana"})
    plan = build_process_plan(config)
    assert list(dict.fromkeys(process.role for process in plan.processes)) == [
        "captioner", "renderer", "trainer", "evaluator", "report",
    ], "in the order in which the first step needs them"  # fmt: skip
    assert [process.generator for process in plan.with_role("renderer")] == ["micro/sd15", "micro/sana"]
    assert sorted(process.role for process in plan.processes if process.role != "renderer") == [
        "captioner", "evaluator", "report", "trainer",
    ]  # fmt: skip
    assert len({process.name for process in plan.processes}) == len(plan.processes)
    assert all("/" not in process.name for process in plan.processes)


def test_command_line_of_a_renderer():
    renderer = build_process_plan(load_config()).with_role("renderer")[0]
    assert renderer.argv("/runs/x", 7)[1:] == [
        "-P", "-m", "polygen_stream.producers.renderer", "--run-dir", "/runs/x", "--ring-fd", "7",
        "--name", "renderer-micro-sd15", "--generator", "micro/sd15",
        "--device", "cpu",
    ]  # fmt: skip


def test_a_generator_may_have_several_renderers_each_on_a_device_of_its_own():
    words = {"launch.renderers": '{"micro/sana" = ["cuda:1", "cuda:2"]}', "generators.recipes": "micro/sd15,micro/sana"}
    plan = build_process_plan(load_config(None, words))
    placed = [(process.name, process.label, process.device) for process in plan.with_role("renderer")]
    assert placed == [
        ("renderer-micro-sd15", "renderer micro/sd15", "cpu"),
        ("renderer-micro-sana-1", "renderer micro/sana #1", "cuda:1"),
        ("renderer-micro-sana-2", "renderer micro/sana #2", "cuda:2"),
    ]
    assert plan.ring.generators == ("micro/sd15", "micro/sana")


@pytest.mark.parametrize(
    ("renderers", "words"),
    [('{"sd9" = ["cuda:1"]}', "launch.renderers names sd9"), ('{"micro/sana" = []}', "micro/sana is empty")],
)
def test_renderers_of_no_generator_or_on_no_device_are_refused(renderers, words):
    with pytest.raises(UserError, match=words):
        load_config(None, {"launch.renderers": renderers})


def test_threads_and_device_reach_the_environment():
    config = load_config(None, {"launch.trainer_threads": "3", "train.device": "cuda:0"})
    plan = build_process_plan(config)
    [trainer], [renderer, *_] = plan.with_role("trainer"), plan.with_role("renderer")
    assert trainer.env["OMP_NUM_THREADS"] == trainer.env["MKL_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in trainer.env
    assert renderer.env["OMP_NUM_THREADS"] == "1"
    assert renderer.env["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("role", ["evaluator", "report"])
@pytest.mark.parametrize(
    ("words", "device"),
    [
        ({"train.device": "cuda:2", "evaluate.device": "cuda:1"}, "cuda:2"),
        ({"train.device": "cuda", "train.ranks": "2"}, "cuda:0"),
        ({}, "cpu"),
    ],
)
def test_after_training_evaluator_and_report_are_where_the_trainer_was(monkeypatch, role, words, device):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(12))
    threads = {"launch.trainer_threads": "3", "generators.recipes": "micro/sd15,micro/sana"}
    plan = build_process_plan(load_config(None, {**threads, **words}))
    [process] = plan.with_role(role)
    after = plan.after_training(process)
    everybody = 3 * int(words.get("train.ranks", 1)) + 2 + 1 + 1  # trainers, renderers, captioner, evaluator
    assert (after.name, after.device, after.threads) == (role, device, everybody)
    assert after.argv("/runs/x", 7)[-4:] == ["--device", device, "--threads", str(everybody)]
    assert after.env["OMP_NUM_THREADS"] == after.env["MKL_NUM_THREADS"] == str(everybody)
    assert after.env.get("CUDA_VISIBLE_DEVICES") == ("" if device == "cpu" else None)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(4))
    assert plan.after_training(process).threads == 4, "more than there are cores slow each other down"


def test_an_evaluator_that_has_a_gpu_keeps_it_where_training_had_none():
    plan = build_process_plan(load_config(None, {"evaluate.device": "cuda:1"}))
    assert [plan.after_training(each).device for each in plan.with_role("evaluator", "report")] == ["cuda:1", "cpu"]


def test_a_run_with_nothing_to_score_has_no_evaluator():
    words = {"captions.source": "my:source", "captions.bank": "english"}
    assert not build_process_plan(load_config(None, words)).with_role("evaluator")
    tasks = {"evaluate.tasks": "sugarcrepe_pp_tot"}
    assert build_process_plan(load_config(None, words | tasks)).with_role("evaluator")


def test_the_captioner_may_have_an_interpreter_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    words = {"launch.captioner_python": "bin/python"}
    processes = build_process_plan(load_config(None, words)).processes
    # A virtual environment's interpreter is a link that must not be followed.
    assert {p.role: p.command[0] for p in processes if p.command[0] != sys.executable} == {
        "captioner": str(tmp_path / "bin" / "python")
    }
    with pytest.raises(UserError, match=r"launch\.captioner_python = 'none/python' cannot be started.*make vllm-env"):
        build_process_plan(load_config(None, {"launch.captioner_python": "none/python"}))


def test_vllm_sees_its_gpu_alone_and_counts_its_engines(monkeypatch):
    def captioner(**changes):
        words = {"captions.source": "vllm", **{key.replace("_", ".", 1): value for key, value in changes.items()}}
        [process] = build_process_plan(load_config(None, words)).with_role("captioner")
        return process

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert captioner(captions_device="cuda:2").env["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert captioner(captions_device="cuda:2").env["CUDA_VISIBLE_DEVICES"] == "7"
    assert "CUDA_VISIBLE_DEVICES" not in captioner(captions_device="cuda").env
    assert captioner().env["CUDA_VISIBLE_DEVICES"] == ""
    one, two = captioner(captions_editor="package:mistral"), captioner()
    assert (
        two.memory_bytes > one.memory_bytes > build_process_plan(load_config()).with_role("captioner")[0].memory_bytes
    )


def test_ranks_of_a_trainer_are_told_apart_as_torchrun_does():
    plan = build_process_plan(load_config(None, {"train.ranks": "3", "train.device": "cuda"}))
    ranks = plan.with_role("trainer")
    assert [(rank.name, rank.label, rank.device) for rank in ranks] == [
        (f"trainer-{number}", f"trainer rank {number}", f"cuda:{number}") for number in range(3)
    ]
    for number, rank in enumerate(ranks):
        assert rank.env["RANK"] == rank.env["LOCAL_RANK"] == str(number)
        assert rank.env["WORLD_SIZE"] == rank.env["LOCAL_WORLD_SIZE"] == "3"
        assert "CUDA_VISIBLE_DEVICES" not in rank.env
    [alone] = build_process_plan(load_config()).with_role("trainer")
    assert (alone.name, alone.label) == ("trainer", "trainer") and "RANK" not in alone.env


def test_ring_has_room_for_as_many_plain_groups_as_slots_allow():
    config = load_config(
        None, {"ring.slots": "4096", "generators.positives": "4", "generators.negatives": "4", "train.batch": "64"}
    )
    ring = build_process_plan(config).ring
    assert (ring.slots, ring.groups, ring.members) == (4096, 1024, 8)
    assert ring.image_shape == (32, 32, 3)


def test_run_folder_defaults_to_time_and_name_and_is_never_reused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {"name": "trial"})
    chosen = choose_run_folder(config, None)
    assert chosen.parent == tmp_path / "runs" and chosen.name.endswith("-trial")
    create_run_folder(config, chosen)
    with pytest.raises(UserError, match="is not empty"):
        choose_run_folder(config, chosen)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        choose_run_folder(config, tmp_path / "file")
    with pytest.raises(UserError, match="cannot make run folder"):
        create_run_folder(config, tmp_path / "file" / "below")


def test_written_config_is_the_resolved_one(tmp_path):
    config = load_config(None, {"train.steps": "7"})
    create_run_folder(config, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.toml") == config


def test_last_checkpoint_is_the_one_with_the_most_steps(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for name in ("step_000000", "step_999999", "step_1000000", ".partial-step_2000000"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert last_checkpoint(tmp_path) == (1000000, tmp_path / "checkpoints" / "step_1000000")
