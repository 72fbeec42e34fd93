"""Runs a training cycle of a micro model: from saved or fresh weights to saved ones."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.base.errors import UserError
from polygen_stream.micro.oracle import Oracle, fit_oracle, load_oracle, save_oracle
from polygen_stream.micro.training import zoo, zoo_llm
from polygen_stream.micro.training.dataset import (
    PaintedImages,
    alt_texts,
    labelled_images,
    labelled_scene,
    seen_images,
)
from polygen_stream.micro.training.fit_autoencoder import encode_all, fit_autoencoder, fit_to_latents
from polygen_stream.micro.training.fit_denoiser import fit_denoiser
from polygen_stream.micro.training.fit_llm import fit_language_model
from polygen_stream.micro.training.fit_student import fit_student
from polygen_stream.micro.training.preview import preview
from polygen_stream.micro.training.recipes import AUTOENCODERS, LANGUAGE_MODELS, TURBO, UNSHIPPED, Cycle
from polygen_stream.micro.training.saving import save_language_model, save_pipeline

IMAGE_SEED = 1  # of the images on which autoencoders and generators are trained
_TRAIN_SDXL = "train it first: python tools/train_micro.py sdxl"


def folder_of(name: str, work: Path) -> Path:
    """Return the folder of a model's weights: in the package if they are shipped, else in the work folder."""
    return (work if name in UNSHIPPED else SHIPPED_WEIGHTS) / name


def run_cycle(name: str, cycle: Cycle, work: Path, *, fresh: bool) -> dict[str, float]:
    """Train a model for one cycle and save its weights, regularly and at the end.

    Args:
        name: the model, a key of `RECIPES`.
        cycle: what to do.
        work: folder for images, unshipped weights and previews.
        fresh: whether to start with fresh weights instead of those in the model's folder.

    Returns:
        Metrics of the training loop, for the model's card.

    Raises:
        UserError: weights that the cycle needs do not exist.
    """
    torch.manual_seed(cycle.seed)
    folder = folder_of(name, work)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if name == "oracle":
        return _oracle(cycle, folder, fresh)
    if name in LANGUAGE_MODELS:
        return _language_model(name, cycle, folder, fresh)
    data = seen_images(cycle.pictures, seed=IMAGE_SEED, cache=work)
    if name in AUTOENCODERS.values():
        return _autoencoder(name, cycle, data, folder, fresh)
    if cycle.part == "vae":
        return _own_autoencoder(name, cycle, data, folder)
    return _generator(name, cycle, data, work, fresh)


def _oracle(cycle: Cycle, folder: Path, fresh: bool) -> dict[str, float]:
    folder.mkdir(exist_ok=True)
    file, held_out = folder / "oracle.safetensors", 6000
    images, labels = labelled_images(cycle.pictures, seed=2)
    test_images, _ = labelled_images(held_out, seed=3)
    scenes = [labelled_scene(3, i)[0] for i in range(held_out)]
    oracle = Oracle() if fresh else load_oracle(file)
    accuracy: dict[str, float] = {}

    def snapshot() -> None:
        save_oracle(oracle, file)
        right = oracle.read(test_images).correct(scenes)
        accuracy.update({f"{question} accuracy": round(float(np.nanmean(r)), 4) for question, r in right.items()})
        logging.info("held-out %s", accuracy)

    epochs = max(1, round(cycle.steps * cycle.batch / cycle.pictures))
    fit_oracle(
        oracle, images, labels, epochs=epochs, batch=cycle.batch, lr=cycle.lr, log=logging.info, snapshot=snapshot
    )
    return accuracy


def _autoencoder(name: str, cycle: Cycle, data: PaintedImages, folder: Path, fresh: bool) -> dict[str, float]:
    vae = getattr(zoo, f"build_{name}")() if fresh else _load_autoencoder(name, folder)
    psnr = fit_autoencoder(vae, data, cycle.steps, cycle.batch, cycle.lr, logging.info)
    vae.save_pretrained(folder)
    return {"psnr_db": round(psnr, 2)}


def _own_autoencoder(name: str, cycle: Cycle, data: PaintedImages, folder: Path) -> dict[str, float]:
    """Give a trained generator an autoencoder from fresh weights that reads and writes the same latents."""
    pipeline = _load(folder, f"train {name} from the start")
    vae = zoo.build_kl_f4_sdxl()
    psnr = fit_to_latents(vae, pipeline.vae, data, cycle.steps, cycle.batch, cycle.lr, logging.info)
    pipeline.register_modules(vae=vae)
    save_pipeline(pipeline, folder)
    return {"psnr_db": round(psnr, 2)}


def _language_model(name: str, cycle: Cycle, folder: Path, fresh: bool) -> dict[str, float]:
    if fresh:
        model, tokenizer = getattr(zoo_llm, f"build_{name}")()
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loss = fit_language_model(
        model,
        tokenizer,
        {"mistral": zoo_llm.caption_exchange, "llama": zoo_llm.negative_exchange}[name],
        seed=cycle.seed,
        steps=cycle.steps,
        batch=cycle.batch,
        lr=cycle.lr,
        log=logging.info,
        snapshot=lambda step: save_language_model(model, tokenizer, folder),
    )
    return {"loss": round(loss, 4)}


def _generator(name: str, cycle: Cycle, data: PaintedImages, work: Path, fresh: bool) -> dict[str, float]:
    folder = folder_of(name, work)
    teacher = _load(work / "sdxl", _TRAIN_SDXL) if name == "sdxl_turbo" else None
    pipeline = _first_pipeline(name, work) if fresh else _load(folder, f"train {name} from the start")
    if cycle.start_from:
        other = _load(folder_of(cycle.start_from, work), f"train {cycle.start_from} first")
        for part in ("unet", "text_encoder", "text_encoder_2"):
            if isinstance(getattr(other, part, None), type(getattr(pipeline, part, None))):
                _start_from(getattr(pipeline, part), getattr(other, part))

    def snapshot(step: int) -> None:
        save_pipeline(pipeline, folder)
        preview(pipeline, name, work / f"{name}-{step:05d}.png")

    if teacher is not None:
        loss = fit_student(
            pipeline,
            teacher,
            encode_all(pipeline.vae, data.images[: TURBO["pairs"]]),
            data.captions,
            **TURBO,
            steps=cycle.steps,
            batch=cycle.batch,
            lr=cycle.lr,
            log=logging.info,
            snapshot=snapshot,
        )
    else:
        captions = data.captions
        if cycle.alt_text:
            captions = alt_texts(len(data), seed=IMAGE_SEED, wrong=cycle.alt_text)
        latents = encode_all(pipeline.vae, data.images)
        logging.info("latents %s mean %.3f std %.3f", tuple(latents.shape), latents.mean(), latents.std())
        loss = fit_denoiser(
            pipeline,
            latents,
            captions,
            steps=cycle.steps,
            batch=cycle.batch,
            lr=cycle.lr,
            warm_up_text=fresh,
            log=logging.info,
            snapshot=snapshot,
        )
    save_pipeline(pipeline, folder)
    return {"loss": round(loss, 4)}


def _first_pipeline(name: str, work: Path) -> DiffusionPipeline:
    """Return the pipeline that the first cycle of a generator starts with."""
    if name == "sdxl_turbo":  # as SDXL-Turbo, the student starts as a copy of its teacher
        return _load(work / "sdxl", _TRAIN_SDXL)
    autoencoder = AUTOENCODERS[name]
    vae = _load_autoencoder(autoencoder, work / autoencoder, SHIPPED_WEIGHTS / name / "vae")
    return getattr(zoo, f"build_{name}")(vae.eval())


def _load(folder: Path, remedy: str) -> DiffusionPipeline:
    if not (folder / "model_index.json").is_file():
        raise UserError(f"no weights at {folder}: {remedy}")
    return DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)


def _load_autoencoder(name: str, *folders: Path) -> AutoencoderKL | AutoencoderDC:
    for folder in folders:
        if (folder / "config.json").is_file():
            kind = AutoencoderDC if name == "dc_f8" else AutoencoderKL
            return kind.from_pretrained(folder, torch_dtype=torch.float32)
    raise UserError(f"no weights of the autoencoder {name}: train it first: python tools/train_micro.py {name}")


def _start_from(module: nn.Module, other: nn.Module) -> None:
    """Copy the parameters of another module that have the same name and shape."""
    ours = module.state_dict()
    common = {k: v.float() for k, v in other.state_dict().items() if k in ours and ours[k].shape == v.shape}
    module.load_state_dict({**ours, **common})
    share = sum(v.numel() for v in common.values()) / sum(v.numel() for v in ours.values())
    logging.info("%.0f %% of the parameters of %s are copied from the other model", 100 * share, type(module).__name__)
