"""A user's own generator: a folder outside the package with a recipe file and a copy of micro weights beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from polygen_stream.assets.resources import SHIPPED_WEIGHTS, recipe_path


def own_recipe(folder: Path, name: str = "mine", weights: str = "./weights", like: str = "micro/sd15") -> Path:
    """Write a recipe file, with weights beside it where they are the folder ./weights; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = recipe_path(like).read_text(encoding="utf-8")
    source = f'"package:{like.rpartition("/")[2]}"'
    assert source in shipped
    if weights == "./weights" and not (folder / "weights").exists():
        shutil.copytree(SHIPPED_WEIGHTS / like.rpartition("/")[2], folder / "weights")
    file = folder / f"{name}.toml"
    file.write_text(shipped.replace(source, f'"{weights}"'), encoding="utf-8")
    return file
