"""Ask the oracle of the micro world about the pictures of the task `transfer`, and print its scores.

    polygen-stream fetch-pictures
    python tools/oracle_transfer.py

The oracle is a classifier of painted pictures (polygen_stream/micro/oracle.py). Pictures are prepared for it as for a
CLIP of ours: 32 x 32 pixels, bilinear. A picture is right if its thing is the most likely answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import InterpolationMode, pil_to_tensor, resize

from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.evaluate.score import proportion
from polygen_stream.evaluate.transfer.folder import default_folder
from polygen_stream.evaluate.transfer.picture_list import STYLES
from polygen_stream.evaluate.transfer.task import listed_pictures
from polygen_stream.micro.oracle import load_oracle
from polygen_stream.micro.world import THINGS


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of `polygen-stream fetch-pictures`, if not the default")
    folder = parser.parse_args().folder or default_folder()
    torch.set_num_threads(1)
    pictures = listed_pictures(folder)
    images = np.stack([prepared(folder / each.file) for each in pictures])
    read = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors").read(images)
    answers = read.log_p["thing"].argmax(-1)
    right = answers == np.array([THINGS.index(each.thing) for each in pictures])
    style = np.array([each.package.style for each in pictures])
    for name, chosen in (("all", style != ""), *((one, style == one) for one in STYLES)):
        score = proportion(right[chosen])
        print(f"{name:13} {100 * score.score:5.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}] n={score.n}")


def prepared(file: Path) -> np.ndarray:
    """Return a picture as uint8 [32, 32, 3]."""
    whole = pil_to_tensor(Image.open(file).convert("RGB"))
    small = resize(whole, [32, 32], interpolation=InterpolationMode.BILINEAR, antialias=True)
    return small.permute(1, 2, 0).numpy()


if __name__ == "__main__":
    main()
