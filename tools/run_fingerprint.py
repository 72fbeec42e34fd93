"""Record the results of a deterministic micro run in a JSON file, and compare them with those of another version.

    python tools/run_fingerprint.py before.json                      # at the commit before a change
    python tools/run_fingerprint.py after.json --against before.json # after it; exit code 1 if results differ

Trains 60 steps of the micro preset with ring.mode = "deterministic" and eager generators, through the command line of
the interpreter that runs this script, and records the losses, the draw log, the journal, the hash of the final weights
and the scores of the untrained and the final checkpoint. A change that is not meant to change results must leave all of
them equal. Takes about three minutes on two CPU cores; equality holds on one machine, not between processor types.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OVERRIDES = {
    "seed": "0",
    "ring.mode": "deterministic",
    "generators.backend": "eager",
    "captions.target": "600",
    "train.steps": "60",
    "train.checkpoint_every": "60",
    "evaluate.every": "0",
}


def fingerprint(run_dir: Path) -> dict[str, object]:
    """Run the micro preset and return its results, without times.

    Args:
        run_dir: a new folder for the run.

    Returns:
        Losses and gradient norms per step, the draw log and journal line by line, SHA-256 of the final weights, scores.
    """
    words = [word for key, value in OVERRIDES.items() for word in (f"--{key}", value)]
    command = [sys.executable, "-m", "polygen_stream", "run", *words, "--run-dir", str(run_dir)]
    subprocess.run(command, check=True)
    metrics = _lines(run_dir / "metrics.jsonl")
    weights = run_dir / "checkpoints" / "step_000060" / "model.safetensors"
    return {
        "losses": [[record["step"], record["loss"], record["grad_norm"]] for record in metrics],
        "draw_log": _lines(run_dir / "draw_log.jsonl"),
        "journal": _lines(run_dir / "journal.jsonl"),
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "scores": [
            {k: v for k, v in record.items() if not k.endswith("_s")} for record in _lines(run_dir / "eval.jsonl")
        ],
    }


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file to write the fingerprint to")
    parser.add_argument("--against", type=Path, help="fingerprint of the version to compare with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = fingerprint(Path(folder) / "run")
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.against is None:
        return 0
    expected = json.loads(arguments.against.read_text(encoding="utf-8"))
    different = [part for part in expected if json.loads(json.dumps(found.get(part))) != expected[part]]
    print(f"different: {', '.join(different)}" if different else f"equal: {', '.join(expected)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
