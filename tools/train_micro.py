"""Train the micro models that ship with the package.

    python tools/train_micro.py oracle           # reads pictures back; grades the generators
    python tools/train_micro.py kl_f4            # autoencoders: kl_f4, dc_f8
    python tools/train_micro.py sd15             # then generators: sd15, sd2, sana, sdxl_turbo

Every model is saved under polygen_stream/micro/weights/ (generators, as diffusers folders in fp16) or in the work
folder (autoencoders), with a card that says what made it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "polygen_stream" / "micro" / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["oracle", *AUTOENCODERS, *GENERATORS])
    parser.add_argument("--steps", type=int, default=None, help="default: the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=60000, help="painted pictures to train on")
    parser.add_argument("--start-from", metavar="NAME", help="begin with what another generator's UNet has in common")
    parser.add_argument("--go-on", action="store_true", help="a further cycle, from the weights that are there")
    parser.add_argument("--lr", type=float, default=None, help="peak learning rate; default: the recipe's")
    parser.add_argument("--alt-text", type=float, default=None, metavar="WRONG", help="default: the recipe's")
    parser.add_argument("--work", type=Path, default=ROOT / ".micro-work", help="pictures, autoencoders, previews")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    if arguments.name == "oracle":
        train_oracle(arguments)
    elif arguments.name in AUTOENCODERS:
        train_autoencoder(arguments)
    else:
        train_generator(arguments)


ORACLE = (6, 128, 2e-3)  # epochs, batch, peak learning rate
# name -> (autoencoder steps, batch, peak learning rate)
AUTOENCODERS = {"kl_f4": (2600, 32, 2e-3), "dc_f8": (3600, 32, 2e-3)}
# name -> (autoencoder, steps, batch, peak learning rate)
GENERATORS = {
    "sd15": ("kl_f4", 5000, 64, 1.5e-3),
    "sd2": ("kl_f4", 3200, 64, 1.5e-3),
    "sana": ("dc_f8", 4500, 64, 1.2e-3),
    "sdxl": ("kl_f4", 5000, 64, 1.2e-3),
    "sdxl_turbo": ("kl_f4", 3000, 64, 1.0e-3),
}
# Web data of the two Stable Diffusion classes: this share of captions name another thing (see `alt_texts`)
ALT_TEXT = {"sd15": 0.7, "sd2": 0.6}
TEACHERS = ("sdxl",)  # trained, kept in the work folder, not shipped
TURBO = {
    "pairs": 16000, "teacher_steps": 8, "guidance": 3.5, "anchors": (999, 749, 499, 249), "adversarial": 0.5,
}  # fmt: skip


def train_oracle(arguments: argparse.Namespace) -> None:
    import numpy as np

    from polygen_stream.micro.oracle import Oracle, fit_oracle, save_oracle
    from polygen_stream.micro.pictures import labelled_pictures, scene_of

    folder = WEIGHTS / "oracle"
    folder.mkdir(parents=True, exist_ok=True)
    started, (epochs, batch, lr), held_out = time.time(), ORACLE, 6000
    images, labels = labelled_pictures(arguments.pictures, seed=2)
    test_images, _ = labelled_pictures(held_out, seed=3)
    scenes = [scene_of(3, i)[0] for i in range(held_out)]
    oracle, accuracy = Oracle(), {}

    def snapshot() -> None:
        save_oracle(oracle, folder / "oracle.safetensors")
        right = oracle.read(test_images).correct(scenes)
        accuracy.update({question: round(float(np.nanmean(r)), 4) for question, r in right.items()})
        logging.info("held-out accuracy %s", accuracy)

    fit_oracle(oracle, images, labels, epochs=epochs, batch=batch, lr=lr, log=logging.info, snapshot=snapshot)
    write_card(arguments, folder, epochs * (len(images) // batch), started, {"accuracy": accuracy})


def train_autoencoder(arguments: argparse.Namespace) -> None:
    from polygen_stream.micro import zoo
    from polygen_stream.micro.fit import fit_autoencoder

    steps, batch, lr = AUTOENCODERS[arguments.name]
    steps = arguments.steps or steps
    vae = getattr(zoo, f"build_{arguments.name}")()
    started = time.time()
    psnr = fit_autoencoder(vae, pictures(arguments), steps, batch, lr, logging.info)
    vae.save_pretrained(arguments.work / arguments.name)
    write_card(arguments, arguments.work / arguments.name, steps, started, {"psnr_db": round(psnr, 2)})
    logging.info("%s: %.2f dB", arguments.name, psnr)


def train_generator(arguments: argparse.Namespace) -> None:
    import torch
    from diffusers import (
        AutoencoderDC,
        AutoencoderKL,
        DiffusionPipeline,
    )

    from polygen_stream.micro import zoo
    from polygen_stream.micro.fit import encode_all, fit_denoiser, fit_student
    from polygen_stream.micro.pictures import alt_texts

    name = arguments.name
    autoencoder, steps, batch, lr = GENERATORS[name]
    steps, lr = arguments.steps or steps, arguments.lr or lr
    folder = (arguments.work if name in TEACHERS else WEIGHTS) / name
    data = pictures(arguments)
    wrong = ALT_TEXT.get(name, 0.0) if arguments.alt_text is None else arguments.alt_text
    captions = alt_texts(arguments.pictures, seed=1, wrong=wrong) if wrong else data.captions
    started = time.time()
    before = None
    if arguments.go_on:
        before = json.loads((folder / "card.json").read_text())
        pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    else:
        vae_class = AutoencoderDC if autoencoder == "dc_f8" else AutoencoderKL
        shipped = WEIGHTS / ("sana" if autoencoder == "dc_f8" else "sd15") / "vae"
        fresh = arguments.work / autoencoder
        vae = vae_class.from_pretrained(fresh if fresh.exists() else shipped, torch_dtype=torch.float32).eval()
        pipeline = getattr(zoo, f"build_{name}")(vae)
    if arguments.start_from:
        other = DiffusionPipeline.from_pretrained(WEIGHTS / arguments.start_from, torch_dtype=torch.float32)
        start_from(pipeline.unet, other.unet)
        for part in ("text_encoder", "text_encoder_2"):
            if isinstance(getattr(other, part, None), type(getattr(pipeline, part, None))):
                start_from(getattr(pipeline, part), getattr(other, part))

    def snapshot(step: int) -> None:
        save(pipeline, folder)
        preview(pipeline, name, arguments.work / f"{name}-{step:05d}.png")

    if name == "sdxl_turbo":
        teacher = DiffusionPipeline.from_pretrained(arguments.work / "sdxl", torch_dtype=torch.float32)
        if not arguments.go_on:  # as SDXL-Turbo does, the student begins as its teacher
            pipeline = DiffusionPipeline.from_pretrained(arguments.work / "sdxl", torch_dtype=torch.float32)
        loss = fit_student(
            pipeline,
            teacher,
            encode_all(pipeline.vae, data.images[: TURBO["pairs"]]),
            data.captions,
            **TURBO,
            steps=steps,
            batch=batch,
            lr=lr,
            log=logging.info,
            snapshot=snapshot,
        )
    else:
        latents = encode_all(pipeline.vae, data.images)
        logging.info("latents %s mean %.3f std %.3f", tuple(latents.shape), latents.mean(), latents.std())
        loss = fit_denoiser(
            pipeline,
            latents,
            captions,
            steps=steps,
            batch=batch,
            lr=lr,
            warm_up_text=not (arguments.go_on or arguments.start_from),
            log=logging.info,
            snapshot=snapshot,
        )
    save(pipeline, folder)
    write_card(arguments, folder, steps, started, {"loss": round(loss, 4)}, before)


def start_from(module, other) -> None:
    """Copy the parameters of another module that have the same name and shape."""
    ours = module.state_dict()
    common = {k: v.float() for k, v in other.state_dict().items() if k in ours and ours[k].shape == v.shape}
    module.load_state_dict({**ours, **common})
    share = sum(v.numel() for v in common.values()) / sum(v.numel() for v in ours.values())
    logging.info("%.0f %% of the parameters of %s start from the other", 100 * share, type(module).__name__)


def pictures(arguments: argparse.Namespace):
    from polygen_stream.micro.pictures import seen_pictures

    return seen_pictures(arguments.pictures, seed=1, cache=arguments.work)


def save(pipeline, folder: Path) -> None:
    """Save in fp16 and replace the folder at once, so that a reader never sees half of it."""
    import copy

    import torch

    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    copy.deepcopy(pipeline).to(dtype=torch.float16).save_pretrained(temporary)
    forget_where_it_was_loaded_from(temporary)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)


def forget_where_it_was_loaded_from(folder: Path) -> None:
    """Take this machine's paths out of the configs that diffusers wrote."""
    for file in folder.rglob("*.json"):
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def preview(pipeline, name: str, path: Path) -> None:
    """Twelve held-out captions, three pictures each, next to what the painter makes of them."""
    import numpy as np
    import torch
    from PIL import Image

    from polygen_stream.micro.grammar import Style, describe
    from polygen_stream.micro.painter import paint
    from polygen_stream.micro.world import Split, sample_scene

    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, Split.UNSEEN if i % 2 else Split.SEEN) for i in range(24)]
    captions = [describe(s, Style.sample(rng)) for s in scenes]
    rows = [np.stack([paint(s, rng) for s in scenes])]
    settings = {
        "sd15": {"num_inference_steps": 16, "guidance_scale": 3.0},
        "sd2": {"num_inference_steps": 16, "guidance_scale": 3.0},
        "sana": {"num_inference_steps": 12, "guidance_scale": 4.5},
        "sdxl": {"num_inference_steps": 12, "guidance_scale": 3.0},
        "sdxl_turbo": {"num_inference_steps": 2, "guidance_scale": 0.0},
    }[name]
    if name == "sana":
        settings |= {"use_resolution_binning": False, "clean_caption": False, "complex_human_instruction": None}
        settings |= {"max_sequence_length": pipeline.tokenizer.model_max_length}
    pipeline.set_progress_bar_config(disable=True)
    started = time.time()
    for seed in range(3):
        generators = [torch.Generator().manual_seed(seed * 100 + i) for i in range(len(captions))]
        images = pipeline(
            prompt=captions, height=32, width=32, output_type="np", generator=generators, **settings
        ).images
        rows.append(np.round(images * 255).astype(np.uint8))
    logging.info("preview %s: %.1f ms an image", path.name, (time.time() - started) / 72 * 1e3)
    grid = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
    Image.fromarray(grid).resize((grid.shape[1] * 2, grid.shape[0] * 2), 0).save(path)
    path.with_suffix(".txt").write_text("\n".join(captions))


def write_card(
    arguments: argparse.Namespace, folder: Path, steps: int, started: float, metrics: dict, before: dict | None = None
) -> None:
    """What made these weights; `before` is the card of the weights that training went on from."""
    card = {
        "command": " ".join(["python", "tools/train_micro.py", *sys.argv[1:]]),
        "seed": arguments.seed,
        "steps": steps,
        "pictures": arguments.pictures,
        "minutes": round((time.time() - started) / 60, 1),
        "threads": arguments.threads,
        "metrics": metrics,
    }
    if before:
        card["before"] = before
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
