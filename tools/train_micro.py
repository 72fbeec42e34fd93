"""Train the micro models that ship with the package.

    python tools/train_micro.py sana             # the cycles of its recipe that its card does not list yet
    python tools/train_micro.py --all            # the same for every model, each in a process of its own
    python tools/train_micro.py sana --again     # from fresh weights
    python tools/train_micro.py sana --further 2000 --lr 5e-4    # one cycle in addition to its recipe
    python tools/train_micro.py --grade docs/audit.json          # write the metrics of an audit into the cards

Recipes are in polygen_stream/micro/training/recipes.py. Every model is saved under polygen_stream/micro/weights/, or in
the work folder (autoencoders, the teacher of sdxl_turbo), with a card that records how it was trained.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.micro.training.card import read_card, write_card
from polygen_stream.micro.training.recipes import RECIPES, Cycle

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", choices=RECIPES)
    what.add_argument("--all", action="store_true", help="train every model, in order")
    what.add_argument("--grade", type=Path, metavar="AUDIT.json", help="write metrics into the cards, train nothing")
    parser.add_argument("--again", action="store_true", help="start with fresh weights")
    parser.add_argument("--further", type=int, metavar="STEPS", help="train one more cycle like the recipe's last one")
    parser.add_argument("--lr", type=float, help="peak learning rate of --further")
    parser.add_argument("--seed", type=int, help="seed of --further")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".micro-work", help="folder for images, autoencoders, previews"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        if arguments.grade:
            grade(arguments.grade)
        elif arguments.all:
            for name in RECIPES:
                again = ["--again"] if arguments.again else []
                options = ["--threads", str(arguments.threads), "--work", str(arguments.work), *again]
                subprocess.run([sys.executable, __file__, name, *options], check=True)
        else:
            train(arguments)
    except UserError as problem:
        sys.exit(f"error: {problem}")
    except subprocess.CalledProcessError as problem:
        sys.exit(problem.returncode)


def train(arguments: argparse.Namespace) -> None:
    """Train the cycles of a model that are missing, and record each in its card."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch

    torch.set_num_threads(arguments.threads)
    from polygen_stream.micro.training.cycles import folder_of, run_cycle

    name, folder = arguments.name, folder_of(arguments.name, arguments.work)
    done = [] if arguments.again else list(read_card(folder).get("cycles", []))
    wanted = list(RECIPES[name][len(done) :])
    if arguments.further:
        last = RECIPES[name][-1]
        changes = {"lr": arguments.lr or last.lr, "seed": last.seed + 1 if arguments.seed is None else arguments.seed}
        wanted = [replace(last, steps=arguments.further, start_from="", **changes)]
    if not wanted:
        logging.info("%s has every cycle of its recipe; --again starts anew, --further STEPS adds a cycle", name)
    for cycle in wanted:
        started = time.monotonic()
        measured = run_cycle(name, cycle, arguments.work, fresh=not done)
        done.append(entry(cycle, round((time.monotonic() - started) / 60, 1), arguments.threads, measured))
        write_card(folder, {"cycles": done})
        logging.info("%s: cycle %d of %d: %s", name, len(done), len(RECIPES[name]), measured)


def entry(cycle: Cycle, minutes: float, threads: int, measured: dict[str, float]) -> dict[str, object]:
    """Return the record of a cycle for the card."""
    command = " ".join(["python", "tools/train_micro.py", *sys.argv[1:]])
    return {"command": command, **asdict(cycle), "minutes": minutes, "threads": threads, **measured}


def grade(audit: Path) -> None:
    """Write the metrics of `polygen-stream audit --json` into the cards of the audited models."""
    from polygen_stream.assets.resources import SHIPPED_WEIGHTS

    try:
        found = json.loads(audit.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UserError(f"cannot read {audit}: {problem}; write it with `polygen-stream audit --json FILE`") from None
    models = {name.removeprefix("micro/"): figures for name, figures in found["generators"].items()}
    models |= {name.removeprefix("package:"): figures for name, figures in found["language_models"].items()}
    for name, figures in models.items():
        folder = SHIPPED_WEIGHTS / name
        metrics = {key: _short(value) for key, value in figures.items() if key != "spectrum"}
        write_card(folder, {**read_card(folder), "metrics": {"pictures": found["pictures"], **metrics}})


def _short(value: object) -> object:
    """Format a share as "0.91 [0.89, 0.93]", also inside tables."""
    if isinstance(value, dict) and {"share", "low", "high"} <= value.keys():
        return f"{value['share']} [{value['low']}, {value['high']}]"
    return {k: _short(v) for k, v in value.items()} if isinstance(value, dict) else value


if __name__ == "__main__":
    main()
