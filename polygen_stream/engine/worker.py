"""Builds one generator's engines as a process of its own, so that a compiler's crash or memory is not the caller's.

python -m polygen_stream.engine.worker --recipe micro/sd15 --backend tensorrt-rtx --target SM89 --cache DIR [--force]
    [--random-weights] [--accept-difference REASON]

Progress goes to standard output, one line per stage; an error is the last line of standard error, "error: ...".
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from polygen_stream.base.errors import PolygenError


def main() -> None:
    """Build the engines that the command line names.

    Raises:
        PolygenError: They cannot be built.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--target", action="append")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--accept-difference")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")

    from polygen_stream.engine.build import build  # imports torch and diffusers
    from polygen_stream.engine.cache import EngineCache
    from polygen_stream.generators.recipe import load_recipe

    build(
        load_recipe(arguments.recipe),
        arguments.backend,
        EngineCache(arguments.cache),
        arguments.target or [None],
        arguments.force,
        arguments.random_weights,
        say=lambda line: print(line, flush=True),
        accept=arguments.accept_difference,
    )


if __name__ == "__main__":
    try:
        main()
    except PolygenError as problem:
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)
        sys.exit(problem.exit_code)
