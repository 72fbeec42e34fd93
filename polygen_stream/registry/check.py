"""Import parts of the user's own in a process like those that will use them, and say where they are from.

    python -m polygen_stream.registry.check train.objective=my_losses:my_objective ring.sampler=my_samplers:newest

Prints one JSON object, {key: {"value", "file", "sha256"}}; an error is the last line of standard error, "error: ...".
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from polygen_stream.base.errors import PolygenError
from polygen_stream.registry.builtin import REGISTRIES


def describe(key: str, value: str) -> dict[str, str | None]:
    """Import a part and return where its module is: {"value", "file", "sha256"}, the latter two None without a file.

    Raises:
        UserError: It cannot be imported, or not be called as a part of its kind.
    """
    (registry,) = (registry for registry in REGISTRIES if registry.key == key)
    registry.load(value)
    file = getattr(sys.modules[value.partition(":")[0]], "__file__", None)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return {"value": value, "file": file, "sha256": digest}


def main(parts: Mapping[str, str]) -> None:
    """Check the parts of a command line, by key, and print where they are from."""
    print(json.dumps({key: describe(key, value) for key, value in parts.items()}))


if __name__ == "__main__":
    try:
        main(dict(word.split("=", 1) for word in sys.argv[1:]))
    except PolygenError as problem:
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)
        sys.exit(problem.exit_code)
