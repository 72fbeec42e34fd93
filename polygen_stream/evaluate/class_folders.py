"""Folders with one subfolder of pictures per class, as people have them: classes, files, and what is left out."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from polygen_stream.base.errors import UserError

SPLITS = ("train", "test")
LIKE_SPLITS = {*SPLITS, "training", "testing", "val", "valid", "validation", "trainval", "dev", "eval"}
# Folders that operating systems put beside a user's own, in small letters; names that begin with a dot are theirs too.
NOT_THE_USERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
SHOWN = 10  # names in one line


@dataclass(frozen=True)
class ClassPictures:
    """The pictures of one split.

    Attributes:
        classes: Names, of all splits of the folder together, so that a label means the same in each.
        files: The pictures.
        labels: Index of each picture's class.
        read: What was read and what was left out, for the user.
    """

    classes: list[str]
    files: list[Path]
    labels: list[int]
    read: list[str]


@dataclass
class _LeftOut:
    """What was passed over: names of folders and of files."""

    folders: set[str] = field(default_factory=set)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        if self.folders:
            yield f"left out folders that are hidden or the system's: {listed(sorted(self.folders))}"
        if self.hidden:
            yield f"left out {counted(len(self.hidden), 'hidden file')}: {listed(self.hidden)}"
        if self.others:
            yield (
                f"left out {counted(len(self.others), 'file')} that {'is' if len(self.others) == 1 else 'are'} not"
                f" called {', '.join(IMG_EXTENSIONS)}: {listed(self.others)}"
            )


def class_pictures(folder: Path, split: str) -> ClassPictures:
    """Read FOLDER/SPLIT/CLASS/picture, or FOLDER/CLASS/picture where the whole folder is for testing.

    Args:
        folder: The folder.
        split: "train" or "test".

    Raises:
        UserError: No such split, a folder that cannot be listed, a class without pictures, one folder that is none of
            a class, or two classes that are called the same.
    """
    left_out = _LeftOut()
    there = [each for each in SPLITS if _is_split(folder / each)]
    _check_split(folder, split, there)
    where = folder / split if split in there else folder
    own = _class_folders(where, left_out)
    folders = {name for each in there for name in _class_folders(folder / each, _LeftOut())} | own.keys()
    order = sorted(folders)
    _check_classes(where, own, order, there)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(order):
        if name in own:
            found = _pictures_below(own[name], left_out)
            if not found:
                raise UserError(
                    f"{own[name]} has no picture ({', '.join(IMG_EXTENSIONS)}): put some there, or remove the folder"
                )
            files += found
            labels += [label] * len(found)
    classes = [_called(name) for name in order]
    read = [f"{counted(len(files), 'picture')} of {counted(len(own), 'class')} in {where}: {listed(map(_called, own))}"]
    if missing := [_called(name) for name in order if name not in own]:
        read.append(f"no picture of {listed(missing)}, which other splits of {folder} have")
    return ClassPictures(classes, files, labels, [*read, *left_out.lines()])


def counted(number: int, what: str) -> str:
    """Return "1 picture", "2 pictures"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"


def listed(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _check_split(folder: Path, split: str, there: Sequence[str]) -> None:
    if split in there:
        return
    entries = [entry for entry in _entries(folder) if entry.is_dir() and not _is_hidden(entry.name)]
    alike = [entry.name for entry in entries if entry.name.lower() in LIKE_SPLITS and entry.name not in SPLITS]
    other = [name for name in alike if _is_split(folder / name)]
    if split == "test" and not there and not other:
        # "train" is a vehicle too; but a folder that has only splits has no classes.
        if entries and all(entry.name.lower() in LIKE_SPLITS for entry in entries):
            names = ", ".join(f"{entry.name}/" for entry in entries)
            raise UserError(f"{folder} has pictures in {names}, but no folders of classes in there: sort them by class")
        return
    hint = f", but {other[0]}/: rename that to {split}/, or name {folder / other[0]}" if other else ""
    raise UserError(f"{folder} has no folder {split}/ with one folder of pictures per class{hint}")


def _check_classes(where: Path, own: dict[str, Path], order: Sequence[str], there: Sequence[str]) -> None:
    if not own:
        raise UserError(f"{where} is no folder of one folder of pictures per class: there is no folder in it")
    by_name: dict[str, str] = {}
    for name in order:
        # Small and large letters are the same to the tokenizers of CLIPs.
        other = by_name.setdefault(_called(name).casefold(), name)
        if other != name:
            raise UserError(
                f"{where}: the folders {other} and {name} are two classes that are called the same, {_called(name)!r}:"
                " rename one, or put their pictures together"
            )
    if len(order) == 1 and not there:  # where there are splits, the task will say so
        [path] = own.values()
        hint = f"; if its folders are the classes, name {path}" if _folders(path) else ""
        raise UserError(f"{where} has one class, {path.name}, and no other to tell it from: add one{hint}")


def _class_folders(where: Path, left_out: _LeftOut) -> dict[str, Path]:
    """Folder of each class by its name, with accents composed, so that two splits agree however they were written."""
    found: dict[str, Path] = {}
    for entry in _entries(where):
        if not entry.is_dir():
            _leave_out_file(entry.name, left_out)
        elif _is_hidden(entry.name):
            left_out.folders.add(entry.name)
        else:
            found[_checked_name(where, entry.name)] = Path(entry.path)
    return found


def _checked_name(where: Path, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where} has a folder whose name is not UTF-8, {os.fsencode(name)}: rename it") from None
    if not _called(name):
        raise UserError(f"{where} has a folder called {name!r}, which names no class: rename it")
    return unicodedata.normalize("NFC", name)


def _called(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _is_split(path: Path) -> bool:
    """Whether a folder has folders of classes, or nothing; one with pictures of its own alone is a class."""
    return path.is_dir() and (bool(_folders(path)) or not any(_is_picture(entry.name) for entry in _entries(path)))


def _folders(path: Path) -> list[str]:
    return [entry.name for entry in _entries(path) if entry.is_dir() and not _is_hidden(entry.name)]


def _pictures_below(folder: Path, left_out: _LeftOut) -> list[Path]:
    """Pictures in a folder and below it, ordered as by torchvision's ImageFolder; links lead in no circle."""
    inside: list[tuple[str, list[Path]]] = []

    def visit(path: Path, above: frozenset[tuple[int, int]]) -> None:
        status = path.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        files: list[Path] = []
        for entry in _entries(path):
            if not entry.is_dir():
                if _is_picture(entry.name):
                    files.append(Path(entry.path))
                else:
                    _leave_out_file(entry.name, left_out)
            elif _is_hidden(entry.name):
                left_out.folders.add(entry.name)
            else:
                visit(Path(entry.path), above | {identity})
        inside.append((str(path), files))

    visit(folder, frozenset())
    return [file for _, files in sorted(inside) for file in files]


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as problem:
        raise UserError(f"cannot list {path}: {problem.strerror}") from None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in NOT_THE_USERS


def _is_picture(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def _leave_out_file(name: str, left_out: _LeftOut) -> None:
    (left_out.hidden if name.startswith(".") else left_out.others).append(name)
