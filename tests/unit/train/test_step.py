from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from colour_batch import batch_of, setup
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg

from polygen_stream.base.errors import PolygenError
from polygen_stream.config import RunConfig, TrainConfig
from polygen_stream.train.checkpoint import save_checkpoint
from polygen_stream.train.device import training_device
from polygen_stream.train.grad_cache import check_micro_batching
from polygen_stream.train.model import compile_towers, create_clip, initial_clip, load_clip
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.precision import autocast_dtype
from polygen_stream.train.step import train_step


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_falls_on_a_batch_that_repeats(precision):
    config = RunConfig(train=TrainConfig(precision=precision, warmup=2, steps=100, lr=2e-3))
    model, tokenizer, optimizer = setup(config)
    results = [train_step(model, optimizer, batch_of(tokenizer, step), config) for step in range(20)]
    assert results[-1].loss < 0.6 * results[0].loss
    assert set(results[0].loss_parts) == {"i2t", "t2i", "negative_i2t", "negative_t2i"}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_image_image_head_is_trained_by_its_term_and_left_out_of_evaluation(precision, tmp_path):
    train = TrainConfig(precision=precision, image_image_weight=1.0, image_image_head=16)
    config = RunConfig(train=train)
    model, tokenizer = initial_clip(train, seed=0)
    optimizer = build_optimizer(model.train(), train)
    before = model.image_image_head[0].weight.detach().clone()
    result = train_step(model, optimizer, batch_of(tokenizer, 0), config)
    assert "image_image" in result.loss_parts
    assert not torch.equal(model.image_image_head[0].weight, before)
    folder = save_checkpoint(
        tmp_path, step=1, final=True, config=config, model=model, optimizer=optimizer, curriculum={}, data={}
    )
    plain, _ = load_clip(folder)
    assert not hasattr(plain, "image_image_head")
    assert torch.equal(plain.text_projection, model.text_projection)


def test_a_model_without_the_head_that_the_config_asks_for_is_not_trained_on_its_embedding_instead():
    config = RunConfig(train=TrainConfig(precision="fp32", image_image_weight=1.0, image_image_head=16))
    model, tokenizer = create_clip("micro")
    optimizer = build_optimizer(model.train(), config.train)
    with pytest.raises(ValueError, match=r"train.image_image_head = 16, but the model has none: see initial_clip"):
        train_step(model, optimizer, batch_of(tokenizer, 0), config)


def test_the_chosen_objective_is_the_one_trained_on():
    """Two images a caption and half the captions negative: every objective gives another value and set of parts."""
    results = {}
    for options in ({}, {"hn_t2i": "none"}, {"hn_t2i": "all"}, {"objective": "negclip"}, {"objective": "infonce"}):
        config = RunConfig(train=TrainConfig(precision="fp32", **options))
        model, tokenizer, optimizer = setup(config)
        result = train_step(model, optimizer, batch_of(tokenizer, 0), config)
        results[result.loss] = set(result.loss_parts)
    assert len(results) == 5
    assert list(results.values())[-2:] == [{"i2t", "t2i"}, {"i2t", "t2i"}]


def test_detail_is_taken_out_of_the_pictures_a_step_sees():
    """Noise with its detail removed is another batch; flat pictures have none to lose."""
    noise = torch.randint(0, 256, (8, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    losses = {}
    for pictures in ("noise", "flat"):
        for probability in (0.0, 1.0):
            config = RunConfig(train=TrainConfig(precision="fp32", downsample_probability=probability))
            model, tokenizer, optimizer = setup(config)
            batch = batch_of(tokenizer, 0)
            batch = replace(batch, images=noise) if pictures == "noise" else batch
            losses[pictures, probability] = train_step(model, optimizer, batch, config).loss
    assert losses["flat", 0.0] == pytest.approx(losses["flat", 1.0], rel=1e-5)
    assert abs(losses["noise", 0.0] - losses["noise", 1.0]) > 1e-3


@pytest.mark.extended  # torch.compile takes a minute
def test_compiled_towers_take_the_same_steps_and_keep_their_names(tmp_path):
    """Batches of other sizes included, as a curriculum makes them."""
    config = RunConfig(train=TrainConfig(precision="fp32", warmup=2, steps=100))
    losses, states = [], []
    for compiled in (False, True):
        model, tokenizer, optimizer = setup(config)
        if compiled:
            compile_towers(model)
        batches = [batch_of(tokenizer, step, negatives=2 * step) for step in range(2)]
        losses.append([train_step(model, optimizer, batch, config).loss for batch in batches])
        states.append(model.state_dict())
    assert compiled_frames() > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert states[1].keys() == states[0].keys()
    folder = save_checkpoint(
        tmp_path, step=3, final=True, config=config, model=model, optimizer=optimizer, curriculum={}, data={}
    )
    assert torch.equal(load_clip(folder)[0].text_projection, model.text_projection)


def compiled_frames() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def transformer() -> CLIP:
    """A CLIP whose features of a picture do not depend on the others in the batch."""
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=8, image_size=32)
    return CLIP(16, vision, CLIPTextCfg(context_length=32, vocab_size=49408, width=32, heads=2, layers=1)).train()


@pytest.mark.parametrize("term", [{}, {"image_image_weight": 0.5, "image_image_head": 8}], ids=["", "head"])
def test_micro_batches_make_the_step_of_the_large_batch(term):
    results = []
    for pieces in (1, 4, 3):
        train = TrainConfig(precision="fp32", grad_clip=0, accum_freq=pieces, **term)
        model, (_, tokenizer) = transformer(), create_clip("micro")
        if train.image_image_head:
            torch.manual_seed(1)
            model.image_image_head = torch.nn.Linear(16, train.image_image_head)
        result = train_step(model, build_optimizer(model, train), batch_of(tokenizer, 0), RunConfig(train=train))
        results.append((result, torch.cat([p.grad.flatten() for p in model.parameters()])))
    (expected, gradient), *others = results
    for found, other in others:
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
        assert (other - gradient).norm() < 1e-5 * gradient.norm()


def test_a_model_with_batch_norms_is_not_trained_in_micro_batches():
    model, _ = create_clip("micro")
    with pytest.raises(ValueError, match=r"train\.accum_freq = 4.*'micro' has batch norms \(visual\.trunk"):
        check_micro_batching(model, TrainConfig(accum_freq=4))
    check_micro_batching(transformer(), TrainConfig(accum_freq=4))


def test_auto_precision_follows_what_the_processor_multiplies_in(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert autocast_dtype("auto", cpu) is None
    assert autocast_dtype("bf16", cpu) is torch.bfloat16  # asked for, so done, however slow
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    assert autocast_dtype("auto", cpu) is torch.bfloat16
    assert autocast_dtype("fp32", cpu) is None


def test_first_step_moves_by_the_warmed_up_rate():
    config = RunConfig(train=TrainConfig(warmup=10, lr=1e-3, weight_decay=0.0))
    model, tokenizer, optimizer = setup(config)
    before = model.text_projection.detach().clone()
    result = train_step(model, optimizer, batch_of(tokenizer, 0), config)
    assert result.lr == pytest.approx(1e-4)
    # Adam's first step is the rate times the sign of the gradient, so clipping cannot be what sizes it.
    assert (model.text_projection - before).abs().max().item() == pytest.approx(1e-4, rel=1e-2)


def test_weights_that_are_not_numbers_end_the_run_by_step_and_part_and_are_not_touched():
    config = RunConfig()
    model, tokenizer, optimizer = setup(config)
    model.text_projection.data[0, 0] = float("nan")
    before = model.token_embedding.weight.detach().clone()
    with pytest.raises(PolygenError, match=r"step 17: loss is nan \(i2t nan, t2i nan.*train\.lr"):
        train_step(model, optimizer, batch_of(tokenizer, 17), config)
    assert torch.equal(model.token_embedding.weight, before)


def test_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"train\.device = 'cuda:99'.*CUDA devices"):
        training_device("cuda:99")
    with pytest.raises(ValueError, match=r"train\.device = 'warp'"):
        training_device("warp")
    with pytest.raises(ValueError, match=r"--device = 'cuda:99'.*: set --device = 'cpu', or see"):
        training_device("cuda:99", key="--device")
