"""The list of pictures: whole, without doubles, and on open terms."""

from __future__ import annotations

import base64
import re
from collections import Counter

import pytest

from polygen_stream.evaluate.transfer.picture_list import STYLES, Package, read_picture_list
from polygen_stream.micro.world import THINGS

OPEN = {"MIT", "ISC", "Apache-2.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"}
PICTURES = read_picture_list()


def test_every_thing_has_as_many_pictures_and_from_many_packages():
    assert set(Counter(each.thing for each in PICTURES).values()) == {18}
    assert {each.thing for each in PICTURES} == set(THINGS)
    for thing in THINGS:
        assert len({each.package.name for each in PICTURES if each.thing == thing}) >= 8, thing


def test_no_picture_is_there_twice():
    assert not [key for key, n in Counter((each.package.name, each.name) for each in PICTURES).items() if n > 1]
    assert not [file for file, n in Counter(each.file for each in PICTURES).items() if n > 1]


@pytest.mark.parametrize("package", PICTURES.packages, ids=lambda package: package.short)
def test_a_package_says_what_it_is_and_on_which_terms(package: Package):
    assert re.fullmatch(r"\d+\.\d+\.\d+", package.version), "one version, not a range"
    algorithm, _, digest = package.integrity.partition("-")
    assert algorithm == "sha512" and len(base64.b64decode(digest, validate=True)) == 64
    assert package.license in OPEN and package.style in STYLES
    assert package.author and package.source.startswith("https://")


def test_every_style_is_there_for_most_things():
    for style in STYLES:
        assert len({each.thing for each in PICTURES if each.package.style == style}) >= 20, style
