"""The list of pictures: which package, at which version, drew which thing. It is reviewed data, not code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.toml_files import read_toml

PICTURES = Path(__file__).parents[1] / "benchmarks" / "transfer" / "pictures.toml"
STYLES = ("rendering", "illustration", "pictogram")


@dataclass(frozen=True)
class Package:
    """An npm package and what is taken from it.

    Attributes:
        name: As npm has it, e.g. "@scope/name".
        version: The one version that is taken.
        integrity: Of its archive: "sha512-" and the digest in base64, as in npm's lock files.
        license: SPDX identifier of the pictures' licence.
        author: Who drew them.
        source: Where they come from.
        style: One of `STYLES`.
        pictures: Thing -> names of icons in the package's icons.json, or, with a dot in them, of its files.
    """

    name: str
    version: str
    integrity: str
    license: str
    author: str
    source: str
    style: str
    pictures: Mapping[str, tuple[str, ...]]

    @property
    def spec(self) -> str:
        """What npm is asked for."""
        return f"{self.name}@{self.version}"

    @property
    def short(self) -> str:
        """The name without its scope."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Picture:
    """One picture of the list.

    Attributes:
        thing: What it shows.
        package: Where it comes from.
        name: Of the icon or file in the package.
    """

    thing: str
    package: Package
    name: str

    @property
    def is_file(self) -> bool:
        """Whether it is a file of the package, not an icon in its icons.json."""
        return "." in self.name

    @property
    def file(self) -> str:
        """Its path in the folder of pictures, e.g. "house/twemoji--house-with-garden.png"."""
        return f"{self.thing}/{self.package.short}--{Path(self.name).stem}.png"


@dataclass(frozen=True)
class PictureList:
    """All packages, and the SHA-256 of the file that lists them."""

    packages: tuple[Package, ...]
    digest: str

    def __iter__(self) -> Iterator[Picture]:
        for package in self.packages:
            yield from pictures_of(package)


def pictures_of(package: Package) -> Iterator[Picture]:
    """Yield the pictures that are taken from a package."""
    for thing, names in package.pictures.items():
        for name in names:
            yield Picture(thing, package, name)


def read_picture_list(file: Path = PICTURES) -> PictureList:
    """Return the list of a TOML file; by default the one that comes with the package.

    Raises:
        UserError: It cannot be read, or is not TOML.
    """
    packages = [
        Package(**{**entry, "pictures": {thing: tuple(names) for thing, names in entry["pictures"].items()}})
        for entry in read_toml(file, "list of pictures")["packages"]
    ]
    return PictureList(tuple(packages), hashlib.sha256(file.read_bytes()).hexdigest())
