"""Where run presets (configs/), experiments, generator recipes (engines/) and models' weights lie.

Presets, experiments and recipes are each given by name, if they come with the package, or by the path of a TOML file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from polygen_stream.assets.hub import cached, download_command, language_model
from polygen_stream.base.errors import UserError
from polygen_stream.base.home import expand_home

DEFAULT_PRESET = "micro"
RECIPE_SUFFIX = ".toml"

_PACKAGE = Path(__file__).resolve().parents[1]
_NO_EXPERIMENTS = ("pool",)  # the pool that the shipped experiments share
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

SHIPPED_WEIGHTS = _PACKAGE / "micro" / "weights"


def model_path(name: str) -> str:
    """Return where a model's weights are: of "package:NAME" in the package, else the folder or hub id itself."""
    kind, _, shipped = name.partition(":")
    return str(SHIPPED_WEIGHTS / shipped) if kind == "package" else name


def model_folder(name: str) -> Path:
    """Return the folder with the files of a model that was loaded, which for a hub id is in the hub's cache.

    Raises:
        UserError: There is none.
    """
    source = model_path(name)
    if Path(source).is_dir():
        return Path(source)
    revision = language_model(name).revision
    config = cached(source, "config.json", revision)
    if config is None:
        raise UserError(f"model {name} is neither a folder nor in the hub's cache: {download_command(name, revision)}")
    return config.parent


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 over the safetensors files of a folder, in the order of their paths.

    A process reads a file once, and again only after its size or time of change is another.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(_sha256(file))
    return digest.hexdigest()


def _sha256(file: Path) -> bytes:
    blob = file.resolve()
    # The hub's cache names a large file by its hash, which saves reading tens of gigabytes.
    if blob.parent.name == "blobs" and len(blob.name) == 64:
        return bytes.fromhex(blob.name)
    found = blob.stat()
    return _content_sha256(blob, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=256)
def _content_sha256(file: Path, _inode: int, _size: int, _changed_ns: int) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _folder(name: str) -> Path:
    # The wheel carries both folders inside the package; a checkout has them beside it.
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def preset_names() -> list[str]:
    """Return the names of the run presets that come with the package, e.g. ["micro", "node_8gpu"]."""
    return [name for name in _names(_folder("configs")) if "/" not in name]  # experiments/ holds no run presets


def experiment_names() -> list[str]:
    """Return the names of the experiments that come with the package, e.g. ["negatives", "table1"]."""
    return [name for name in _names(_folder("configs") / "experiments") if name not in _NO_EXPERIMENTS]


def recipe_names() -> list[str]:
    """Return the names of the generator recipes that come with the package, e.g. ["micro/sana", "sd15"]."""
    return _names(_folder("engines"))


def config_path(name_or_path: str | Path | None = None) -> Path:
    """Return the TOML file of a run: a preset by name, a file by path, or the micro preset for None.

    Raises:
        UserError: No such preset or file, or the path is a folder.
    """
    name = DEFAULT_PRESET if name_or_path is None else str(name_or_path)
    return _named_file("config", name, preset_names(), "preset", _folder("configs"))


def experiment_path(name_or_path: str | Path) -> Path:
    """Return the TOML file of an experiment: one of the package's by name, or a file by path.

    Raises:
        UserError: No such experiment or file, or the path is a folder.
    """
    folder = _folder("configs") / "experiments"
    return _named_file("experiment", str(name_or_path), experiment_names(), "name", folder)


def _named_file(kind: str, name: str, known: Sequence[str], named: str, folder: Path) -> Path:
    if name in known:
        return folder / f"{name}.toml"
    path = expand_home(name)
    wanted = f"give the path of a TOML file or a {named} ({', '.join(known)})"
    if path.is_dir():
        raise UserError(f"{kind} {name} is a folder: {wanted}")
    if path.exists():
        return path
    close = get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(f"{kind} {name} does not exist: {hint}{wanted}")


def is_recipe_file(recipe: str) -> bool:
    """Whether a recipe is given by path: names of shipped recipes never end in .toml."""
    return recipe.endswith(RECIPE_SUFFIX)


def recipe_name(recipe: str) -> str:
    """Return the name of a generator: a shipped recipe's own, of a recipe file its name without .toml.

    The name stands in the ring, in process and file names, in reports and in shards.

    Raises:
        UserError: The file's name has characters that a process or log file cannot be named with.
    """
    if not is_recipe_file(recipe):
        return recipe
    name = Path(recipe).name.removesuffix(RECIPE_SUFFIX)
    if not _FILE_NAME.fullmatch(name):
        raise UserError(
            f"recipe file {recipe!r}: its name becomes that of processes and files, so it has to consist of letters, "
            "digits, '.', '_' and '-' and start with a letter or digit: rename it"
        )
    return name


def recipe_slug(name: str) -> str:
    """Return a generator's name as a part of file and process names, e.g. "micro-sd15" of "micro/sd15"."""
    return name.replace("/", "-")


def absolute_recipe(recipe: str, folder: Path) -> str:
    """Return a recipe so that it can be found from any directory: a relative path is one inside `folder`."""
    if not is_recipe_file(recipe):
        return recipe
    return os.path.normpath(folder.absolute() / expand_home(recipe))


def check_recipe_name(recipe: str) -> None:
    """Refuse a recipe that is neither shipped nor the path of a TOML file. The file itself is not looked at.

    Raises:
        UserError: Unknown name, which the message compares with the known ones, or a path that names no generator.
    """
    if is_recipe_file(recipe):
        recipe_name(recipe)
        return
    known = recipe_names()
    if recipe in known:
        return
    if Path(f"{recipe}{RECIPE_SUFFIX}").is_file():
        raise UserError(f"unknown generator {recipe!r}: of a recipe file give the whole name, {recipe}{RECIPE_SUFFIX}")
    close = get_close_matches(recipe, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"unknown generator {recipe!r}: {hint}known recipes: {', '.join(known) or 'none'}; your own is given by path, "
        "e.g. ./my_sd.toml"
    )


def recipe_path(recipe: str) -> Path:
    """Return the recipe file of a generator: engines/<name>.toml of a shipped one, else the file itself.

    Raises:
        UserError: Unknown name, or no such file.
    """
    check_recipe_name(recipe)
    if not is_recipe_file(recipe):
        return _folder("engines") / f"{recipe}{RECIPE_SUFFIX}"
    path = Path(absolute_recipe(recipe, Path()))
    if not path.is_file():
        raise UserError(f"recipe {path} does not exist: generators.recipes takes names and paths of TOML files")
    return path
