"""Where run presets (configs/), generator recipes (engines/) and models' weights lie, and what weights are."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from pathlib import Path

from polygen_stream.assets.hub import cached, download_command, language_model
from polygen_stream.base.errors import UserError

DEFAULT_PRESET = "micro"

_PACKAGE = Path(__file__).resolve().parents[1]


SHIPPED_WEIGHTS = _PACKAGE / "micro" / "weights"


def model_path(name: str) -> str:
    """Where a model's weights are: "package:NAME" is one shipped with the package, else a folder or hub id as it is."""
    kind, _, shipped = name.partition(":")
    return str(SHIPPED_WEIGHTS / shipped) if kind == "package" else name


def model_folder(name: str) -> Path:
    """The folder with the files of a model that was loaded, which for a hub id is in the hub's cache.

    Raises:
        UserError: there is none.
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
    """SHA-256 over the safetensors files of a folder, in the order of their paths."""
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
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _folder(name: str) -> Path:
    # The wheel carries both folders inside the package; a checkout has them beside it.
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def preset_names() -> list[str]:
    """Names of the run presets that came with the package, e.g. ["micro"]."""
    return [name for name in _names(_folder("configs")) if "/" not in name]  # experiments/ holds no run presets


def recipe_names() -> list[str]:
    """Names of the generator recipes that came with the package, e.g. ["micro/sana", "micro/sd15"]."""
    return _names(_folder("engines"))


def config_path(name_or_path: str | Path | None = None) -> Path:
    """The TOML file of a run: a preset by name, a file by path, or the micro preset for None.

    Raises:
        UserError: no such preset or file, or the path is a folder.
    """
    name = DEFAULT_PRESET if name_or_path is None else str(name_or_path)
    presets = preset_names()
    if name in presets:
        return _folder("configs") / f"{name}.toml"
    path = Path(name)
    if path.is_dir():
        raise UserError(f"config {name} is a folder: give a TOML file or a preset ({', '.join(presets)})")
    if not path.exists():
        raise UserError(
            f"config {name} does not exist: give the path of a TOML file or a preset ({', '.join(presets)})"
        )
    return path


def recipe_path(name: str) -> Path:
    """The recipe file engines/<name>.toml of a generator.

    Raises:
        UserError: unknown name; the message lists the known ones.
    """
    known = recipe_names()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown generator {name!r}: {hint}known recipes: {', '.join(known) or 'none'}")
    return _folder("engines") / f"{name}.toml"
