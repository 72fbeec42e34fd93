from __future__ import annotations

import json
import resource
from copy import deepcopy

import pytest
import torch
from small_rings import open_plain, render

from polygen_stream.base.errors import UserError
from polygen_stream.checkpoints import RING, check, list_checkpoints, read_meta, remove_partial
from polygen_stream.config import RunConfig, TrainConfig
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.schedule.curriculum import Curriculum
from polygen_stream.train.checkpoint import CheckpointWriter, capture, load_checkpoint, save_checkpoint
from polygen_stream.train.model import create_clip, load_clip
from polygen_stream.train.optim import build_optimizer

CONFIG = RunConfig(train=TrainConfig(keep_checkpoints=2))


@pytest.fixture(scope="module")
def trained():
    """A micro model and its optimizer after one step, so that every kind of state exists."""
    torch.manual_seed(0)
    model, tokenizer = create_clip("micro")
    optimizer = build_optimizer(model, CONFIG.train)
    image = model.encode_image(torch.rand(4, 3, 32, 32), normalize=True)
    text = model.encode_text(tokenizer(["a", "b", "c", "d"]), normalize=True)
    (model.logit_scale.exp() * image * text).sum().backward()
    optimizer.step()
    return model, optimizer


def save(run_dir, trained, step, *, final=False, curriculum=None):
    model, optimizer = trained
    return save_checkpoint(
        run_dir,
        step=step,
        final=final,
        config=CONFIG,
        model=model,
        optimizer=optimizer,
        curriculum=curriculum or {"carry": 0.25},
        data={"step": step},
    )


def test_evaluation_reads_the_averaged_weights_and_training_the_live_ones(tmp_path, trained):
    model, optimizer = trained
    average = deepcopy(model)
    with torch.no_grad():
        average.text_projection.mul_(0.5)
    folder = save_checkpoint(
        tmp_path,
        step=3,
        final=True,
        config=CONFIG,
        model=model,
        optimizer=optimizer,
        curriculum={},
        data={},
        average=average,
    )
    assert torch.equal(load_clip(folder)[0].text_projection, average.text_projection)
    assert torch.equal(load_checkpoint(folder).model["text_projection"], model.text_projection)


def steps(run_dir):
    return [step for step, _ in list_checkpoints(run_dir)]


def test_everything_comes_back(tmp_path, trained):
    model, optimizer = trained
    curriculum = Curriculum("linear", 0.0, 0.5, steps=40, texts=10)
    for step in range(18):
        curriculum.draw(step)
    folder = save(tmp_path, trained, 18, curriculum=curriculum.state_dict())
    assert folder == tmp_path / "checkpoints" / "step_000018"
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "state.pt", "meta.json"}

    found = load_checkpoint(folder)
    assert (found.meta["step"], found.meta["final"], found.meta["model"]) == (18, False, "micro")
    assert found.training["curriculum"] == curriculum.state_dict()
    assert found.training["data"] == {"step": 18}
    expected = model.state_dict()
    assert found.model.keys() == expected.keys()
    assert all(torch.equal(found.model[name], expected[name]) for name in expected)

    other, _ = create_clip("micro")
    restored = build_optimizer(other, CONFIG.train)
    restored.load_state_dict(found.training["optimizer"])
    for theirs, ours in zip(optimizer.state.values(), restored.state.values(), strict=True):
        assert torch.equal(theirs["exp_avg_sq"], ours["exp_avg_sq"])


def test_load_clip_gives_the_same_features_in_eval_mode(tmp_path, trained):
    folder = save(tmp_path, trained, 5)
    loaded, tokenizer = load_clip(folder)
    model = trained[0].eval()
    images, tokens = torch.rand(2, 3, 32, 32), tokenizer(["a red key"])
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded.encode_image(images), model.encode_image(images))
        assert torch.equal(loaded.encode_text(tokens), model.encode_text(tokens))


def test_newest_are_kept_beside_the_untrained_and_the_final_one(tmp_path, trained):
    save(tmp_path, trained, 0)
    save(tmp_path, trained, 10, final=True)  # a run that was stopped and continued
    for step in (20, 30, 40):
        save(tmp_path, trained, step)
    assert steps(tmp_path) == [0, 10, 30, 40]


def test_saving_a_step_again_only_marks_it_final(tmp_path, trained):
    folder = save(tmp_path, trained, 7)
    before = (folder / "model.safetensors").stat().st_ino
    save(tmp_path, trained, 7, final=True)
    assert read_meta(folder)["final"] is True
    assert (folder / "model.safetensors").stat().st_ino == before


def test_half_written_folder_is_no_checkpoint_and_is_swept(tmp_path, trained):
    save(tmp_path, trained, 1)
    leftover = tmp_path / "checkpoints" / ".partial-step_000002"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    assert steps(tmp_path) == [1]
    remove_partial(tmp_path)
    assert not leftover.exists() and steps(tmp_path) == [1]


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "meta.json"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing"])
def test_damaged_file_is_named_with_a_remedy(tmp_path, trained, name, damage):
    folder = save(tmp_path, trained, 3)
    file = folder / name
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "foreign":
        file.write_bytes(b"something else entirely, and long enough to be read as a header")
    else:
        file.unlink()
    with pytest.raises(UserError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    assert name in message and ("delete" in message or "name a folder" in message)


def test_a_pickle_with_code_in_it_is_refused(tmp_path, trained):
    folder = save(tmp_path, trained, 3)
    torch.save({"optimizer": print, "rng": {}, "curriculum": {}, "data": {}}, folder / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt"):
        load_checkpoint(folder)


def test_folder_without_meta_is_not_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_clip(tmp_path)


def test_weights_of_another_model_are_refused_by_the_tensor_that_differs(tmp_path, trained):
    folder = save(tmp_path, trained, 3)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"model": "ViT-S-32-alt"}))
    with pytest.raises(UserError, match=r"does not fit the model.*in the\s+checkpoint"):
        load_clip(folder)


def captured(trained, step, ring=None):
    model, optimizer = trained
    state = {"curriculum": {"carry": 0.25}, "data": {"step": step}}
    return capture(step=step, final=False, config=CONFIG, model=model, optimizer=optimizer, ring=ring, **state)


def test_what_is_written_later_is_what_it_was_when_it_was_captured(tmp_path, trained, new_ring):
    model, optimizer = trained
    ring = new_ring()
    open_plain(ring, 0)
    render(ring)
    before = model.text_projection.detach().clone()
    moment = next(iter(optimizer.state.values()))["exp_avg"].clone()
    writer, later = CheckpointWriter(tmp_path, CONFIG), captured(trained, 5, ring)
    open_plain(ring, 1)
    with torch.no_grad():
        model.text_projection.add_(1)
        next(iter(optimizer.state.values()))["exp_avg"].add_(1)
    writer.save(later)
    writer.wait()
    with torch.no_grad():
        model.text_projection.sub_(1)
        next(iter(optimizer.state.values()))["exp_avg"].sub_(1)
    [(_, folder)] = list_checkpoints(tmp_path)
    check(folder, CONFIG)
    found = load_checkpoint(folder)
    assert torch.equal(found.model["text_projection"], before)
    assert torch.equal(found.training["optimizer"]["state"][0]["exp_avg"], moment)
    restored = restore_snapshot(folder / RING, ring.spec)
    assert (restored.stats().known, restored.stats().groups["plain"]["complete"]) == (1, 1)
    restored.close()


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(tmp_path, trained):
    save(tmp_path, trained, 1)
    writer = CheckpointWriter(tmp_path, CONFIG)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        writer.save(captured(trained, 2))
        with pytest.raises(
            UserError, match=r"cannot write the checkpoint of step 2 into .*: .*File too large"
        ) as caught:
            writer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"polygen-stream run --resume {tmp_path}" in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    writer.save(captured(trained, 2))  # there is room again
    writer.wait()
    assert steps(tmp_path) == [1, 2]
