"""Check that pip can resolve every extra of this project, and print a table.

    python tools/check_extras.py                 # every extra alone, and vllm,xformers together
    python tools/check_extras.py ray vllm,ray    # these only

Nothing is installed: `pip install --dry-run` runs in a temporary environment that has only pip, so that installed
packages do not influence the result. A package index is needed; packages for which it has no separate metadata are
downloaded. The exit code is 1 if an extra does not resolve.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOGETHER = ["vllm,xformers"]
SHOWN = ["torch", "transformers"]  # packages that extras pin differently; shown besides those that an extra names


def main() -> int:
    """Run the command line and return the exit code."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", default=[*extras, *TOGETHER], metavar="EXTRA[,EXTRA]")
    parser.add_argument("--timeout", type=float, default=900, help="seconds per extra (default 900)")
    arguments = parser.parse_args()
    unknown = {part for name in arguments.extras for part in name.split(",")} - set(extras)
    if unknown:
        parser.error(f"unknown extra {', '.join(sorted(unknown))}: known are {', '.join(extras)}")

    failed = 0
    print(f"{'extra':<16} {'result':<9} {'s':>4}  versions, or the error", flush=True)
    with tempfile.TemporaryDirectory(prefix="check-extras-") as folder:
        python = bare_environment(Path(folder))
        for name in arguments.extras:
            started = time.monotonic()
            chosen, problem = resolve(python, name, arguments.timeout)
            failed += chosen is None
            details = problem if chosen is None else versions(chosen, name, extras)
            result = "FAILS" if chosen is None else "resolves"
            print(f"{name:<16} {result:<9} {time.monotonic() - started:>4.0f}  {details}", flush=True)
    return 1 if failed else 0


def bare_environment(folder: Path) -> Path:
    """Create an environment with a current pip and return its Python. Older releases of pip download whole packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    return python


def resolve(python: Path, extra: str, timeout: float) -> tuple[dict[str, str] | None, str]:
    """Return {package: version} of what pip would install and "", or None and the error."""
    command = [python, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", f"{ROOT}[{extra}]"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, f"no result within {timeout:.0f} s"
    if done.returncode:
        return None, reason(done.stderr)
    items = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return {normalised(item["name"]): item["version"] for item in items}, ""


def reason(stderr: str) -> str:
    """Return the error in the output of pip, on one line."""
    placeholder = re.search(r"placeholder package which downloads a real wheel", stderr)
    if placeholder:
        # Some of NVIDIA's packages download their real wheel when pip requests their metadata.
        package = re.search(r"^╰─> (\S+)", stderr, re.MULTILINE)
        return f"{package[1] if package else 'a package'} is on its vendor's own index, which cannot be reached"
    errors = [line for line in stderr.splitlines() if line.lower().startswith("error")]
    return (errors or stderr.splitlines() or ["no message"])[-1]


def versions(chosen: dict[str, str], name: str, extras: dict[str, list[str]]) -> str:
    """Format the versions of the packages that an extra names."""
    named = [re.split(r"[^\w.-]", item, maxsplit=1)[0] for part in name.split(",") for item in extras[part]]
    shown = [package for package in dict.fromkeys(map(normalised, [*named, *SHOWN])) if package in chosen]
    return f"{', '.join(f'{package} {chosen[package]}' for package in shown)} ({len(chosen)} packages)"


def normalised(package: str) -> str:
    """Return the normalised name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


if __name__ == "__main__":
    sys.exit(main())
