"""Training recipes of the shipped micro models: a list of cycles per model, with a one-cycle learning rate each.

A cycle continues from the weights of the cycle before it, so that training can be interrupted between cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


@dataclass(frozen=True)
class Cycle:
    """One call of a training loop.

    Attributes:
        steps: training steps.
        batch: images or exchanges per step.
        lr: peak learning rate.
        seed: of weights and batches.
        pictures: number of painted images to train on; 0 for the language models. Cards record this name.
        alt_text: share of wrong nouns in the captions, as in those of a web crawl (`dataset.alt_texts`). It makes the
            two Stable Diffusion classes more varied and less recognizable than the classes that are trained on exact
            captions.
        start_from: another model whose parameters of the same name and shape are copied first; "" for none.
        part: "vae" to train an autoencoder from fresh weights for the latents that the model's denoiser already
            writes, and to leave every other part as it is; "" to train the denoiser and the text encoders.
    """

    steps: int
    batch: int
    lr: float
    seed: int
    pictures: int = 0
    alt_text: float = 0.0
    start_from: str = ""
    part: str = ""


class TurboSettings(TypedDict):
    """Arguments of `fit_student` that are the same in every cycle."""

    pairs: int
    teacher_steps: int
    guidance: float
    anchors: tuple[int, ...]
    adversarial: float


RECIPES: dict[str, tuple[Cycle, ...]] = {
    "oracle": (Cycle(4686, 128, 2e-3, seed=0, pictures=100000),),
    "kl_f4": (Cycle(2600, 32, 2e-3, seed=0, pictures=60000),),
    "kl_f4_sd2": (Cycle(2600, 32, 2e-3, seed=11, pictures=100000),),
    "dc_f8": (Cycle(3600, 32, 2e-3, seed=0, pictures=60000),),
    "sd15": (
        Cycle(5000, 64, 1.5e-3, seed=0, pictures=60000),
        Cycle(7000, 64, 1.2e-3, seed=1, pictures=100000),
        Cycle(1200, 64, 8e-4, seed=2, pictures=100000, alt_text=0.15),
        Cycle(600, 64, 6e-4, seed=3, pictures=100000, alt_text=0.3),
    ),
    "sd2": (
        Cycle(3600, 64, 1.5e-3, seed=10, pictures=100000),
        Cycle(3000, 64, 1.2e-3, seed=11, pictures=100000),
    ),
    "sana": (
        Cycle(4500, 64, 1.2e-3, seed=0, pictures=60000),
        Cycle(2500, 64, 1e-3, seed=0, pictures=60000),
        Cycle(7000, 64, 1.2e-3, seed=1, pictures=100000),
    ),
    "sdxl": (Cycle(5000, 64, 1.2e-3, seed=2, pictures=100000, start_from="sdxl_turbo"),),
    "sdxl_turbo": (
        Cycle(2000, 64, 1e-3, seed=2, pictures=100000),
        Cycle(2600, 32, 2e-3, seed=12, pictures=100000, part="vae"),
    ),
    "mistral": (Cycle(4000, 64, 3e-3, seed=0),),
    "llama": (
        Cycle(4000, 64, 2e-3, seed=0),
        Cycle(1500, 64, 1.2e-3, seed=1),
        Cycle(1500, 64, 1.2e-3, seed=2),
        Cycle(1800, 64, 1.5e-3, seed=3),
    ),
}
AUTOENCODERS = {"sd15": "kl_f4", "sd2": "kl_f4_sd2", "sana": "dc_f8", "sdxl": "kl_f4", "sdxl_turbo": "kl_f4"}
LANGUAGE_MODELS = ("mistral", "llama")
UNSHIPPED = ("kl_f4", "kl_f4_sd2", "dc_f8", "sdxl")  # parts and teachers of shipped models, kept in the work folder
TURBO: TurboSettings = {
    "pairs": 16000, "teacher_steps": 8, "guidance": 3.5, "anchors": (999, 749, 499, 249), "adversarial": 0.5,
}  # fmt: skip
