"""Does pip resolve every extra of this project? Prints a table; exit code 1 if something does not.

    python tools/check_extras.py                 every extra alone, and vllm,xformers together
    python tools/check_extras.py ray vllm,ray    these only

Nothing is installed: `pip install --dry-run` runs in a throw-away environment that holds only pip, so that what
happens to be installed here cannot decide the answer. It needs a package index, and downloads what that index
offers no separate metadata for.
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
SHOWN = ["torch", "transformers"]  # what extras disagree about; shown besides the packages they name


def main() -> int:
    """Resolve the extras that the command line names and print the table; return the exit code."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extras", nargs="*", default=[*extras, *TOGETHER], metavar="EXTRA[,EXTRA]")
    parser.add_argument("--timeout", type=float, default=900, help="seconds per line (default 900)")
    arguments = parser.parse_args()
    unknown = {part for name in arguments.extras for part in name.split(",")} - set(extras)
    if unknown:
        parser.error(f"unknown extra {', '.join(sorted(unknown))}: known are {', '.join(extras)}")

    failed = 0
    print(f"{'extra':<16} {'result':<9} {'s':>4}  versions, or why not", flush=True)
    with tempfile.TemporaryDirectory(prefix="check-extras-") as folder:
        python = bare_environment(Path(folder))
        for name in arguments.extras:
            started = time.monotonic()
            chosen, problem = resolve(python, name, arguments.timeout)
            failed += chosen is None
            words = problem if chosen is None else versions(chosen, name, extras)
            result = "FAILS" if chosen is None else "resolves"
            print(f"{name:<16} {result:<9} {time.monotonic() - started:>4.0f}  {words}", flush=True)
    return 1 if failed else 0


def bare_environment(folder: Path) -> Path:
    """A fresh environment with a current pip, which reads metadata alone where the index offers it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    return python


def resolve(python: Path, extra: str, timeout: float) -> tuple[dict[str, str] | None, str]:
    """{package: version} of what pip would install, or None and the reason."""
    command = [python, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", f"{ROOT}[{extra}]"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout:.0f} s"
    if done.returncode:
        return None, reason(done.stderr)
    items = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return {normalised(item["name"]): item["version"] for item in items}, ""


def reason(stderr: str) -> str:
    """Return the line of pip's standard error that says why it failed."""
    placeholder = re.search(r"placeholder package which downloads a real wheel", stderr)
    if placeholder:
        # Some of NVIDIA's packages fetch their real wheel while pip asks them for metadata.
        package = re.search(r"^╰─> (\S+)", stderr, re.MULTILINE)
        return f"{package[1] if package else 'a package'} lies on its vendor's own index, which was not reached"
    errors = [line for line in stderr.splitlines() if line.lower().startswith("error")]
    return (errors or stderr.splitlines() or ["no message"])[-1]


def versions(chosen: dict[str, str], name: str, extras: dict[str, list[str]]) -> str:
    """Return the versions chosen for the packages that matter, and the number of all packages, in words.

    Args:
        chosen: Version by normalised package name.
        name: Extras of this project, separated by commas.
        extras: Requirements by extra, as in pyproject.toml.
    """
    named = [re.match(r"[\w.-]+", item)[0] for part in name.split(",") for item in extras[part]]
    shown = [package for package in dict.fromkeys(map(normalised, [*named, *SHOWN])) if package in chosen]
    return f"{', '.join(f'{package} {chosen[package]}' for package in shown)} ({len(chosen)} packages)"


def normalised(package: str) -> str:
    """Return a package's name in lower case with single hyphens, as PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", package).lower()


if __name__ == "__main__":
    sys.exit(main())
