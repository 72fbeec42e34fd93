"""Measure the peak memory and time of the loss and its backward pass by batch size, with and without chunks.

    python tools/loss_memory.py --plot docs/loss-memory.png

Each point is measured in a process of its own: the peak resident memory minus the resident memory before the loss. A
batch of B texts has 4 B images, features have 128 dimensions in fp32, a quarter of the texts are hard negatives, and
all terms of the loss are on. Prints a Markdown table.
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
IMAGES = 4  # per text
FEATURES = 128
CHUNK = 256


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="image file for the figure")
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
    """Measure one point in a new process."""
    # Otherwise the allocator keeps freed blocks, and the peak depends on the order of allocations.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", str(texts), str(chunk)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure(texts: int, chunk: int) -> dict[str, float]:
    """Return the peak memory ("mib") and the time ("seconds") of one loss; `chunk` 0 computes all logits at once."""
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
    run(8, chunk=2)  # loads what torch loads on first use
    before = peak_kib(reset=True)
    begun = time.perf_counter()
    run(texts, chunk)
    seconds = time.perf_counter() - begun
    return {"mib": (peak_kib() - before) / 1024, "seconds": seconds}


def peak_kib(reset: bool = False) -> int:
    """Return the peak resident memory of this process in KiB; `reset` first sets it to the current value (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def plot(points: dict[int, list[dict[str, float]]], file: Path) -> None:
    """Plot peak memory by number of texts.

    Args:
        points: {chunk: one measurement per entry of `TEXTS`}.
        file: the image file.
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
