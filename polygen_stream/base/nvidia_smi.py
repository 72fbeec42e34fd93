"""nvidia-smi: what the driver says of this machine's GPUs. Nothing is imported and no CUDA context is made."""

from __future__ import annotations

import subprocess

from polygen_stream.base.errors import PolygenError

LIMIT_S = 30.0


class NoNvidiaSmi(PolygenError):
    """nvidia-smi is not there, does not run, or finds no GPU."""


def query_gpus(*fields: str, gpu: str | None = None) -> list[tuple[str, ...]]:
    """Ask nvidia-smi for properties of the GPUs, in the order of the PCI bus.

    Warnings that it prints among its answers, as of a damaged infoROM, are left out; its exit code is not 0 then.

    Args:
        *fields: Properties by the names of `nvidia-smi --help-query-gpu`, e.g. "name", "memory.total".
        gpu: Only the GPU of this index, UUID or bus id.

    Returns:
        One tuple per GPU, with a text per field: ("NVIDIA H100 80GB HBM3", "81559"). Amounts are in MiB, without a
        unit; what a GPU does not know is "[N/A]".

    Raises:
        NoNvidiaSmi: There is no answer.
    """
    # The index comes first: by it an answer is told from a warning.
    command = ["nvidia-smi", f"--query-gpu=index,{','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            [*command, *([f"--id={gpu}"] if gpu else [])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise NoNvidiaSmi(f"nvidia-smi does not run here ({problem})") from None
    rows = [tuple(cell.strip() for cell in line.split(",", len(fields))) for line in done.stdout.splitlines()]
    found = [row[1:] for row in rows if row[0].isdigit() and len(row) == len(fields) + 1]
    if not found:
        said = next(iter((done.stderr or done.stdout).strip().splitlines()), f"exit code {done.returncode}")
        raise NoNvidiaSmi(f"nvidia-smi finds no GPU here ({said})")
    return found
