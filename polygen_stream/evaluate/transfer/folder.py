"""The folder of pictures: CLASS/picture, with the licences and a record of what was made from which list."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.home import user_cache
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.config import EvaluateConfig
from polygen_stream.evaluate.transfer.picture_list import PictureList

RECORD = "pictures.json"
LICENSES = "LICENSES.md"
COMMAND = "polygen-stream fetch-pictures"
VARIABLE = "POLYGEN_STREAM_PICTURES"


def default_folder() -> Path:
    """Return where the command makes the folder and the task looks for it, if neither is told.

    That is POLYGEN_STREAM_PICTURES, else polygen-stream/pictures in the user's cache folder.

    Raises:
        UserError: There is neither.
    """
    named = os.environ.get(VARIABLE)
    return Path(named) if named else user_cache(VARIABLE) / "polygen-stream" / "pictures"


def has_default_folder() -> bool:
    """Whether the command has made the default folder."""
    try:
        return has_record(default_folder())
    except UserError:  # no home folder
        return False


def tasks_at_the_ends(config: EvaluateConfig, bank: str) -> tuple[str, ...]:
    """Return the tasks that a run's untrained and final model are scored on without being asked to.

    That is `transfer` in the micro world, if its pictures are in the default folder and no task names it.

    Args:
        config: Of the run.
        bank: Whose concepts its captions are about.
    """
    named = any(task.partition(":")[0] == "transfer" for task in config.tasks)
    return () if named or bank != "micro" or not has_default_folder() else ("transfer",)


def write_record(folder: Path, pictures: PictureList, renderer: str) -> None:
    """Record the list's digest, what drew the pictures, and the SHA-256 of each."""
    files = {each.file: _sha256(folder / each.file) for each in pictures}
    write_json(folder / RECORD, {"list": pictures.digest, "renderer": renderer, "files": files})


def write_licenses(folder: Path, pictures: PictureList) -> None:
    """Write who drew which pictures, from which package, and on which terms."""
    lines = [
        "Pictures that others drew, as `polygen-stream fetch-pictures` took them from packages of npm. Each was scaled",
        "to one size and laid on white; nothing else was changed. Each keeps the licence of its package.",
    ]
    for package in pictures.packages:
        files = sorted(each.file for each in pictures if each.package == package)
        lines += [
            "",
            f"## {package.name} {package.version}",
            "",
            f"{package.author}, {package.license}, {package.source}",
            "",
            *(f"- {file}" for file in files),
        ]
    (folder / LICENSES).write_text("\n".join(lines) + "\n", encoding="utf-8")


def has_record(folder: Path) -> bool:
    """Whether a folder was made by the command, from whichever list."""
    return (folder / RECORD).is_file()


def check_folder(folder: Path, pictures: PictureList) -> None:
    """Compare a folder with the list and with its own record.

    Raises:
        UserError: It is none that the command made, was made from another list, or a picture in it is missing,
            another one, or not listed.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: make it with `{COMMAND} {folder}`")
    if not has_record(folder):
        raise UserError(f"{folder} has no {RECORD}, so `{COMMAND}` has not made it: name the folder that it made")
    record = read_json(folder / RECORD, required=("list", "files"))
    again = f"remove the folder and run `{COMMAND} {folder}` again"
    if record["list"] != pictures.digest:
        raise UserError(
            f"{folder} has the pictures of another version's list ({str(record['list'])[:12]}..., this one's is"
            f" {pictures.digest[:12]}...): {again}"
        )
    listed = {each.file for each in pictures}
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.png")}
    if there != listed:
        file = min(there ^ listed)
        raise UserError(f"{folder}: {file} {'is missing' if file in listed else 'is not listed'}: {again}")
    for file in sorted(listed):
        if _sha256(folder / file) != record["files"].get(file):
            raise UserError(f"{folder}: {file} is not the picture that was made: {again}")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
