"""How the shipped micro models were trained: every model as a list of cycles, each one learning rate up and down.

A cycle goes on from the weights that the one before it left, so that a session that ends between two loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cycle:
    """One call of a training loop.

    Args:
        pictures: painted pictures to train on; of the two language models, none.
        alt_text: share of nouns that name something else, as in the captions of a web crawl (`pictures.alt_texts`).
            It makes the two Stable Diffusion classes draw more varied and less recognizable than the classes that
            learnt from exact captions.
        start_from: begin with what another model has in common.
    """

    steps: int
    batch: int
    lr: float  # peak
    seed: int
    pictures: int = 0
    alt_text: float = 0.0
    start_from: str = ""


RECIPES: dict[str, tuple[Cycle, ...]] = {
    "oracle": (Cycle(4686, 128, 2e-3, seed=0, pictures=100000),),
    "kl_f4": (Cycle(2600, 32, 2e-3, seed=0, pictures=60000),),
    "dc_f8": (Cycle(3600, 32, 2e-3, seed=0, pictures=60000),),
    "sd15": (
        Cycle(5000, 64, 1.5e-3, seed=0, pictures=60000),
        Cycle(7000, 64, 1.2e-3, seed=1, pictures=100000),
        Cycle(1200, 64, 8e-4, seed=2, pictures=100000, alt_text=0.15),
        Cycle(600, 64, 6e-4, seed=3, pictures=100000, alt_text=0.3),
    ),
    "sd2": (
        Cycle(3200, 64, 1.5e-3, seed=0, pictures=60000, start_from="sd15"),
        Cycle(1600, 64, 1.2e-3, seed=1, pictures=100000, start_from="sd15"),
        Cycle(1200, 64, 8e-4, seed=2, pictures=100000, alt_text=0.1),
        Cycle(600, 64, 6e-4, seed=3, pictures=100000, alt_text=0.25),
    ),
    "sana": (
        Cycle(4500, 64, 1.2e-3, seed=0, pictures=60000),
        Cycle(2500, 64, 1e-3, seed=0, pictures=60000),
        Cycle(7000, 64, 1.2e-3, seed=1, pictures=100000),
    ),
    "sdxl": (Cycle(5000, 64, 1.2e-3, seed=2, pictures=100000, start_from="sdxl_turbo"),),
    "sdxl_turbo": (Cycle(2000, 64, 1e-3, seed=2, pictures=100000),),
    "mistral": (Cycle(4000, 64, 3e-3, seed=0),),
    "llama": (Cycle(4000, 64, 2e-3, seed=0), Cycle(1500, 64, 1.2e-3, seed=1)),
}
AUTOENCODERS = {"sd15": "kl_f4", "sd2": "kl_f4", "sana": "dc_f8", "sdxl": "kl_f4", "sdxl_turbo": "kl_f4"}
LANGUAGE_MODELS = ("mistral", "llama")
UNSHIPPED = ("kl_f4", "dc_f8", "sdxl")  # parts and teachers of shipped models, kept in the work folder
TURBO = {
    "pairs": 16000, "teacher_steps": 8, "guidance": 3.5, "anchors": (999, 749, 499, 249), "adversarial": 0.5,
}  # fmt: skip
