"""Look up what recipes name of diffusers, in a process of its own: importing diffusers takes seconds.

Classes are looked up, their parts and their arguments:

    python -m polygen_stream.generators.check RECIPE...

An error is the last line of standard error, "error: ...".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from polygen_stream.base.errors import PolygenError
from polygen_stream.generators.recipe import load_recipe


def main(recipes: Sequence[str]) -> None:
    """Check recipes, given by name or path.

    Raises:
        UserError: A recipe cannot be read, or names a class, a part or an argument that diffusers does not have.
    """
    from polygen_stream.generators.classes import diffusers_classes

    for recipe in recipes:
        diffusers_classes(load_recipe(recipe))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PolygenError as problem:
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)
        sys.exit(problem.exit_code)
