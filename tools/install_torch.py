"""Install the CPU builds of torch and torchvision on a machine without an NVIDIA GPU, where the index has them.

    python tools/install_torch.py                  # from the package index that pip is configured with
    python tools/install_torch.py --index URL      # from an index that has CPU builds (make TORCH_INDEX=URL)

PyPI's default build of torch on Linux depends on about 4 GB of CUDA libraries and Triton, which a machine without an
NVIDIA GPU never loads. `make` calls this script before it installs polygen-stream; pip then keeps the installed torch.
On a machine with an NVIDIA GPU, or if the index has no CPU build of the same release, the script prints one line and
installs nothing, and pip installs the default build afterwards. If the index given with --index cannot be used, the
exit code is not 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("torch", "torchvision")
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def has_nvidia_gpu() -> bool:
    """Return whether this machine has an NVIDIA driver: its kernel module or its command."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def default_versions() -> dict[str, str]:
    """Return the releases that pip would install, by package; {} if it finds none."""
    command = [*PIP, "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {}
    found = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return {item["name"]: item["version"].partition("+")[0] for item in found}


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", default="", metavar="URL", help="index with CPU builds; empty: pip's own")
    index = parser.parse_args().index
    if importlib.util.find_spec("torch") is not None:
        return 0
    if has_nvidia_gpu():
        print("torch: this machine has an NVIDIA GPU, installing the default build")
        return 0
    if index:
        return subprocess.run([*PIP, "--index-url", index, *PACKAGES]).returncode
    versions = default_versions()
    wanted = [f"{name}=={version}+cpu" for name, version in versions.items()]
    check = [*PIP, "--dry-run", "--no-deps", *wanted]
    if wanted and subprocess.run(check, capture_output=True).returncode == 0:
        return subprocess.run([*PIP, *wanted]).returncode
    release = versions.get("torch", "")
    print(
        f"torch: the package index has no CPU build of torch {release}: installing the default build with 4 GB of "
        "CUDA libraries; make TORCH_INDEX=URL names an index that has CPU builds"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
