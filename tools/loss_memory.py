"""Peak memory of the loss and its backward pass against the batch size, all logits at once and in chunks.

    python tools/loss_memory.py --plot docs/loss-memory.png

Each point is a process of its own: the highest resident memory it reached, less what it had before the loss. A batch of
B texts has 4 B images of 128 features in fp32, a quarter of the texts are negatives, and all terms of the loss are on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

TEXTS = (128, 256, 512, 1024, 2048)
IMAGES = 4  # a text
FEATURES = 128
CHUNK = 256


def main() -> None:
    """Print the table of all points, or one point, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="where to draw the figure")
    parser.add_argument("--measure", nargs=2, type=int, metavar=("TEXTS", "CHUNK"), help="one point, as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    points = {chunk: [point(texts, chunk) for texts in TEXTS] for chunk in (0, CHUNK)}
    print(f"| texts | images | at once, MiB | in chunks of {CHUNK}, MiB | at once, s | in chunks, s |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for texts, plain, chunked in zip(TEXTS, points[0], points[CHUNK], strict=True):
        memory = f"{plain['mib']:.1f} | {chunked['mib']:.1f}"
        print(f"| {texts} | {IMAGES * texts} | {memory} | {plain['seconds']:.2f} | {chunked['seconds']:.2f} |")
    if arguments.plot:
        plot(points, arguments.plot)


def point(texts: int, chunk: int) -> dict[str, float]:
    """Measure one batch size in a process of its own.

    Args:
        texts: Texts in the batch.
        chunk: Rows of logits at a time; 0 is all at once.

    Returns:
        As `measure` does.
    """
    # Else the allocator keeps freed blocks for itself, and the peak depends on the order of sizes.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", str(texts), str(chunk)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(texts: int, chunk: int) -> dict[str, float]:
    """Measure the loss and its backward pass in this process.

    Args:
        texts: Texts in the batch.
        chunk: Rows of logits at a time; 0 is all at once.

    Returns:
        mib: peak memory above what was in use before, MiB. seconds: wall time.
    """
    import torch

    from polygen_stream.train.loss import multi_positive_loss
    from polygen_stream.train.text_image_index import TextImageIndex

    def run(texts: int, chunk: int) -> None:
        generator = torch.Generator().manual_seed(0)
        index = TextImageIndex.from_tensors(
            torch.arange(texts).repeat_interleave(IMAGES), torch.arange(texts) >= texts * 3 // 4
        )
        images, captions = (
            torch.nn.functional.normalize(torch.randn(n, FEATURES, generator=generator), dim=1).requires_grad_()
            for n in (IMAGES * texts, texts)
        )
        scale = torch.tensor(10.0, requires_grad=True)
        loss, _ = multi_positive_loss(images, captions, scale, index, image_image_weight=1.0, chunk=chunk)
        loss.backward()

    torch.set_num_threads(1)
    run(8, chunk=2)  # what torch loads on first use is there before the measurement
    before = peak_kib(reset=True)
    begun = time.perf_counter()
    run(texts, chunk)
    seconds = time.perf_counter() - begun
    return {"mib": (peak_kib() - before) / 1024, "seconds": seconds}


def peak_kib(reset: bool = False) -> int:
    """Highest resident memory of this process so far; `reset` starts again from what it has now (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def plot(points: dict[int, list[dict[str, float]]], file: Path) -> None:
    """Draw peak memory against the batch size, both axes logarithmic.

    Args:
        points: By chunk size the points of `measure`, in the order of TEXTS.
        file: The picture to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for chunk, label in ((0, "all logits at once"), (CHUNK, f"{CHUNK} rows at a time")):
        axes.loglog(TEXTS, [p["mib"] for p in points[chunk]], "o-", base=2, label=label)
    last = points[CHUNK][-1]["mib"]
    axes.loglog(TEXTS, [last * texts / TEXTS[-1] for texts in TEXTS], "k:", base=2, label="linear")
    axes.set_xlabel(f"texts in the batch ({IMAGES} images each)")
    axes.set_ylabel("peak memory of the loss, MiB")
    axes.set_xticks(TEXTS, [str(texts) for texts in TEXTS])
    axes.legend()
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
