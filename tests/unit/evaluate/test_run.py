"""Which checkpoint the evaluator scores next, and on what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transfer_pictures import paint_pictures

from polygen_stream.base.errors import PolygenError
from polygen_stream.config import EvaluateConfig, RunConfig, TrainConfig
from polygen_stream.evaluate.encoder import load_encoder
from polygen_stream.evaluate.run import Evaluation, evaluate, main, next_checkpoint, training_is_over
from polygen_stream.evaluate.score_suite import score_suite
from polygen_stream.micro.world import Split
from polygen_stream.roles.role import RoleContext
from polygen_stream.train.checkpoint import save_checkpoint
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer

CONFIG = RunConfig(train=TrainConfig(keep_checkpoints=2))


def save(run_dir: Path, step: int, final: bool = False) -> None:
    torch.manual_seed(0)
    model, _ = create_clip("micro")
    save_checkpoint(
        run_dir,
        step=step,
        final=final,
        config=CONFIG,
        model=model,
        optimizer=build_optimizer(model, CONFIG.train),
        curriculum={},
        data={},
    )


def test_the_untrained_model_comes_first_and_then_the_newest_that_is_due(tmp_path: Path) -> None:
    for step in (0, 10, 20, 30):
        save(tmp_path, step)
    done: set[tuple[int, bool]] = set()
    order = []
    while found := next_checkpoint(tmp_path, done, every=20):
        order.append(found[:2])
        done.add(found[:2])
    assert order == [(0, False), (20, False)]  # 10 was retired (two are kept), 30 is not due


def test_a_step_that_becomes_final_after_it_was_scored_is_scored_again(tmp_path: Path) -> None:
    save(tmp_path, 20)
    assert next_checkpoint(tmp_path, {(20, False)}, every=20) is None
    save(tmp_path, 20, final=True)
    assert next_checkpoint(tmp_path, {(20, False)}, every=20)[:2] == (20, True)
    assert next_checkpoint(tmp_path, {(20, False), (20, True)}, every=20) is None


def test_training_is_over_with_the_final_checkpoint(tmp_path: Path) -> None:
    """From then on the evaluator leaves the cores to nobody."""
    assert not training_is_over(tmp_path)
    save(tmp_path, 0)
    assert not training_is_over(tmp_path)
    save(tmp_path, 20, final=True)
    assert training_is_over(tmp_path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    save(run_dir, 20)
    return run_dir / "checkpoints" / "step_000020"


def pictures(folder: Path, *classes: str) -> Path:
    """FOLDER/CLASS/0.png; that of the class "damaged" is no picture."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / name / "0.png")
        if name == "damaged":
            (folder / name / "0.png").write_bytes(b"no picture")
    return folder


def test_a_run_in_the_micro_world_is_scored_on_its_test_set_and_the_tasks_besides(
    checkpoint: Path, tmp_path: Path
) -> None:
    micro = Evaluation.of(EvaluateConfig(images_per_thing=1), "micro")
    task = f"zero_shot:{pictures(tmp_path / 'own', 'a', 'b')}"
    found = evaluate(checkpoint, replace(micro, tasks=(task,)), "cpu")
    encoder = load_encoder(str(checkpoint))
    unseen, seen = (score_suite(encoder, micro.suites[split]) for split in (Split.UNSEEN, Split.SEEN))
    assert found["metrics"] == {**unseen.values(), "seen": seen.values()}
    assert found["intervals"] == {**unseen.intervals(), "seen": seen.intervals()}
    for name, right in unseen.correct.items():
        assert right.dtype == bool and right.mean() == pytest.approx(unseen.scores[name].score)
    assert unseen.correct.keys() == unseen.scores.keys()
    assert found["chance"]["compositional"] == 0.5
    assert found["tasks"][task]["acc1"]["n"] == 2


def test_pictures_that_were_fetched_are_asked_about_before_and_after_training(
    checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    config = EvaluateConfig(images_per_thing=1, tasks=("sugarcrepe_pp_tot",))
    assert Evaluation.of(config, "micro").at(0, False).tasks == config.tasks
    monkeypatch.setenv("POLYGEN_STREAM_PICTURES", str(paint_pictures(tmp_path / "pictures")))
    micro = Evaluation.of(config, "micro")
    both = (*config.tasks, "transfer")
    assert [micro.at(*at).tasks for at in ((0, False), (400, False), (600, True))] == [both, config.tasks, both]
    assert Evaluation.of(config, "english").at(600, True).tasks == config.tasks
    elsewhere = EvaluateConfig(images_per_thing=1, tasks=(f"transfer:{tmp_path}",))
    assert Evaluation.of(elsewhere, "micro").at(600, True).tasks == elsewhere.tasks
    found = evaluate(checkpoint, replace(micro, suites={}, tasks=()).at(600, True), "cpu")
    assert found["tasks"]["transfer"]["acc1"]["n"] == 432 and found["failed"] == {}
    next((tmp_path / "pictures" / "cat").glob("*.png")).unlink()
    damaged = evaluate(checkpoint, replace(micro, suites={}, tasks=()).at(600, True), "cpu")
    assert "is missing: remove the folder and run" in damaged["failed"]["transfer"]


def test_a_run_in_another_world_is_scored_on_its_tasks_alone_and_one_that_fails_costs_no_other(
    checkpoint: Path, tmp_path: Path
) -> None:
    good, bad = pictures(tmp_path / "good", "a", "b"), pictures(tmp_path / "bad", "a", "damaged")
    tasks = (f"zero_shot:{bad}", f"zero_shot:{good}")
    asked: list[str] = []
    found = evaluate(checkpoint, Evaluation.of(EvaluateConfig(tasks=tasks), "english"), "cpu", asked.append)
    assert asked == [*tasks]
    assert found["metrics"] == found["intervals"] == found["chance"] == {}
    assert found["tasks"].keys() == {tasks[1]} and found["tasks"][tasks[1]]["acc1"]["chance"] == 0.5
    assert found["failed"].keys() == {tasks[0]} and "0.png" in found["failed"][tasks[0]]


def test_scores_that_cannot_be_written_are_said_before_they_are_computed(tmp_path: Path, new_ring) -> None:
    """The process ends with code 1, so that it is started again: the disk may have room by then."""
    save(tmp_path, 20, final=True)
    (tmp_path / "eval.jsonl").symlink_to(tmp_path / "unmounted" / "eval.jsonl")
    context = RoleContext(CONFIG, tmp_path, new_ring(), "evaluator", None, "cpu")
    with pytest.raises(PolygenError, match=r"cannot write scores into .*eval\.jsonl: No such file") as problem:
        main(context)
    assert problem.value.exit_code == 1
