"""`polygen-stream fetch-pictures`: downloads the packages of the list and makes the folder of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import PARTIAL
from polygen_stream.evaluate.transfer.archive import download, find_npm, read_files
from polygen_stream.evaluate.transfer.drawing import draw_svg, fit, icon_svg, renderer
from polygen_stream.evaluate.transfer.folder import LICENSES, check_folder, has_record, write_licenses, write_record
from polygen_stream.evaluate.transfer.picture_list import Package, PictureList, pictures_of, read_picture_list

ICONS = "icons.json"


def show_packages(pictures: PictureList, console: Console) -> None:
    """Print every package with its licence and the number of pictures that are taken from it."""
    rows = [("package", "version", "licence", "style", "pictures", "drawn by")]
    for each in pictures.packages:
        number = str(len(list(pictures_of(each))))
        rows.append((each.name, each.version, each.license, each.style, number, each.author))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        console.print("  ".join(cells).rstrip(), soft_wrap=True, markup=False, highlight=False)


def fetch_pictures(folder: Path, console: Console, pictures: PictureList | None = None) -> None:
    """Make a folder of pictures, CLASS/picture, with their licences beside; one that is complete stays as it is.

    Nothing is left of a folder that could not be finished.

    Args:
        folder: A folder that does not exist or is empty, or one that this made before.
        console: Where each package is named.
        pictures: The list; by default the one that comes with the package.

    Raises:
        UserError: The folder has something else in it or cannot be written, or npm or the library that draws is not
            installed.
        PolygenError: A package cannot be downloaded, is another one than was listed, or cannot be drawn.
    """
    pictures = read_picture_list() if pictures is None else pictures
    if has_record(folder):
        check_folder(folder, pictures)
        console.print(f"{folder} is complete", soft_wrap=True, markup=False)
        return
    _check_free(folder)
    drawn_by = renderer()
    find_npm()
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.absolute().parent, prefix=PARTIAL) as temporary:
            made, archives = Path(temporary, "made"), Path(temporary, "archives")
            for package in pictures.packages:
                console.print(f"{package.spec}: {package.license}, {package.author}", soft_wrap=True, markup=False)
                _draw_package(package, archives / package.short, made)
            write_licenses(made, pictures)
            write_record(made, pictures, drawn_by)
            made.rename(folder)
    except OSError as problem:
        raise UserError(f"cannot write {folder}: {problem.strerror or problem}") from None
    number = sum(1 for _ in pictures)
    console.print(f"{number} pictures in {folder}; their licences: {folder / LICENSES}", soft_wrap=True, markup=False)


def _check_free(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise UserError(f"{folder} has something else in it: name a new folder")
    elif folder.exists():
        raise UserError(f"{folder} is a file: name a new folder")


def _draw_package(package: Package, archives: Path, made: Path) -> None:
    """Download a package into `archives` and draw its pictures below `made`."""
    archives.mkdir(parents=True)
    archive = download(package, archives)
    pictures = list(pictures_of(package))
    files = read_files(archive, {each.name if each.is_file else ICONS for each in pictures})
    icons = json.loads(files[ICONS]) if ICONS in files else {}
    for each in pictures:
        path = made / each.file
        path.parent.mkdir(parents=True, exist_ok=True)
        named = f"{each.name} of {package.spec}"
        drawn = fit(files[each.name], named) if each.is_file else draw_svg(icon_svg(icons, each.name))
        drawn.save(path)
    archive.unlink()
