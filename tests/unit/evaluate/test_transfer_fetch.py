"""`fetch-pictures` with the real npm and a registry on the loopback interface: what is made, and what is left."""

from __future__ import annotations

import io
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from local_npm import LocalNpm, integrity_of, npm_package
from PIL import Image
from rich.console import Console

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.evaluate.class_folders import class_pictures
from polygen_stream.evaluate.transfer.drawing import draw_svg, icon_svg
from polygen_stream.evaluate.transfer.fetch import fetch_pictures
from polygen_stream.evaluate.transfer.picture_list import PictureList, read_picture_list

resvg_py = pytest.importorskip("resvg_py", reason="needs the extra `transfer`")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
WIDE = '<path fill="currentColor" d="M0 0h20v10H0z"/>'  # all of a picture of 20 x 10
RED = '<g><rect fill="#f00" x="4" y="4" width="8" height="8"/></g>'


def png(size: tuple[int, int], colour: tuple[int, int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", size, colour).save(stream, "PNG")
    return stream.getvalue()


def icons(**bodies: str) -> dict[str, bytes]:
    return {"icons.json": json.dumps({
        "prefix": "lines",
        "icons": {"wide": {"body": WIDE, "width": 20, "height": 10}, "red": {"body": RED},
                  **{name: {"body": body} for name, body in bodies.items()}},
    }).encode()}  # fmt: skip


ARCHIVES = {
    ("@some/lines", "1.2.3"): npm_package("@some/lines", "1.2.3", icons()),
    ("@some/photos", "2.0.0"): npm_package(
        "@some/photos",
        "2.0.0",
        {"img/green.png": png((8, 8), (0, 128, 0, 255)), "img/clear.png": png((8, 8), (0,) * 4)},
    ),
}


def listed(tmp_path: Path, archives: dict[tuple[str, str], bytes] = ARCHIVES) -> PictureList:
    """The list that means these archives."""
    entries = {
        "@some/lines": {"car": ["wide"], "cat": ["red"]},
        "@some/photos": {"car": ["img/green.png"], "cat": ["img/clear.png"]},
    }
    lines = []
    for (name, version), archive in archives.items():
        about = {"name": name, "version": version, "integrity": integrity_of(archive), "license": "CC-BY-4.0"}
        about |= {"author": f"Author of {name}", "source": "https://example.org", "style": "pictogram"}
        lines += ["[[packages]]", *(f"{key} = {json.dumps(value)}" for key, value in about.items())]
        lines += ["[packages.pictures]", *(f"{key} = {json.dumps(value)}" for key, value in entries[name].items())]
    file = tmp_path / "list.toml"
    file.write_text("\n".join(lines))
    return read_picture_list(file)


@pytest.fixture
def npm(tmp_path, monkeypatch) -> Iterator[LocalNpm]:
    with LocalNpm(ARCHIVES).serving() as registry:
        ask(monkeypatch, tmp_path, registry.url)
        yield registry


def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
    (tmp_path / "npmrc").write_text("")
    settings = {"registry": url, "cache": str(tmp_path / "cache"), "userconfig": str(tmp_path / "npmrc")}
    for key, value in {**settings, "noproxy": "127.0.0.1", "update_notifier": "false"}.items():
        monkeypatch.setenv(f"npm_config_{key}", value)


def fetched(folder: Path, pictures: PictureList) -> str:
    said = io.StringIO()
    fetch_pictures(folder, Console(file=said, width=200), pictures)
    return said.getvalue()


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


@needs_npm
def test_icons_and_files_become_square_pictures_on_white_in_folders_of_their_things(tmp_path, npm):
    folder, pictures = tmp_path / "made" / "pictures", listed(tmp_path)
    said = fetched(folder, pictures)
    assert "@some/lines@1.2.3: CC-BY-4.0, Author of @some/lines" in said and "4 pictures in" in said
    assert class_pictures(folder, "test").classes == ["car", "cat"]

    wide = pixels(folder / "car" / "lines--wide.png")
    assert wide.shape == (256, 256, 3)
    assert (wide[:60] == 255).all() and (wide[68:188] == 0).all() and (wide[196:] == 255).all()
    red = pixels(folder / "cat" / "lines--red.png")
    assert (red[128, 128] == (255, 0, 0)).all() and (red[10, 10] == 255).all()
    assert (pixels(folder / "car" / "photos--green.png") == (0, 128, 0)).all()
    assert (pixels(folder / "cat" / "photos--clear.png") == 255).all(), "transparent pixels are white"

    licenses = (folder / "LICENSES.md").read_text()
    for name in ("lines", "photos"):
        assert f"Author of @some/{name}, CC-BY-4.0, https://example.org" in licenses
    assert all(f"- {each.file}" in licenses for each in pictures)


@needs_npm
def test_a_complete_folder_is_not_made_again_and_a_changed_one_is_refused(tmp_path, npm):
    folder, pictures = tmp_path / "pictures", listed(tmp_path)
    fetched(folder, pictures)
    asked = npm.asked.copy()
    assert "is complete" in fetched(folder, pictures)
    assert npm.asked == asked

    (folder / "cat" / "photos--clear.png").write_bytes(png((4, 4), (1, 2, 3, 4)))
    with pytest.raises(UserError, match=r"cat/photos--clear\.png is not the picture that was made"):
        fetched(folder, pictures)


@needs_npm
def test_an_archive_that_was_not_reviewed_is_not_used(tmp_path, npm):
    pictures = listed(tmp_path)
    npm.archives["@some/photos", "2.0.0"] = npm_package("@some/photos", "2.0.0", {"img/green.png": b"other"})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PolygenError, match=r"the archive of @some/photos@2\.0\.0 is not the one that was reviewed"):
        fetched(tmp_path / "pictures", pictures)
    assert [path for path in tmp_path.iterdir() if path.name != "cache"] == before, "nothing is left"


OUTSIDE = ('<image href="/etc/hostname"/>', "<path style=\"fill:url('x.svg#a')\"/>", "<use xlink:href='b.svg#a'/>")


@pytest.mark.parametrize("body", [*OUTSIDE, "<style>@import 'x.css'</style>"])
def test_an_icon_that_loads_something_is_not_drawn(body):
    with pytest.raises(PolygenError, match="the icon lines:red refers to something outside itself"):
        icon_svg(json.loads(icons(red=body)["icons.json"]), "red")


def test_an_icon_may_refer_to_its_own_parts():
    own = '<defs><linearGradient id="a"><stop stop-color="#0f0"/></linearGradient></defs>'
    svg = icon_svg(json.loads(icons(green=f'{own}<path fill="url(#a)" d="M0 0h16v16H0z"/>')["icons.json"]), "green")
    assert (np.asarray(draw_svg(svg)) == (0, 255, 0)).all()


@needs_npm
def test_without_a_network_one_line_says_so(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ask(monkeypatch, tmp_path, f"http://127.0.0.1:{free.getsockname()[1]}")  # bound, and not listening
        with pytest.raises(PolygenError) as problem:
            fetched(tmp_path / "pictures", listed(tmp_path))
    said = str(problem.value)
    assert said.startswith("npm cannot download @some/lines@1.2.3 (") and "\n" not in said
    assert "ECONNREFUSED" in said and "check the network" in said
    assert not (tmp_path / "pictures").exists()


@needs_npm
def test_a_version_that_was_removed_is_named(tmp_path, npm):
    pictures = listed(tmp_path)
    npm.archives["@some/lines", "1.2.4"] = npm.archives.pop(("@some/lines", "1.2.3"))
    with pytest.raises(PolygenError, match=r"@some/lines@1\.2\.3 \(.*No matching version found"):
        fetched(tmp_path / "pictures", pictures)


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm is not installed"):
        fetched(tmp_path / "pictures", listed(tmp_path))


def test_a_folder_with_something_else_in_it_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"x")
    with pytest.raises(UserError, match="has something else in it: name a new folder"):
        fetched(tmp_path / "mine", listed(tmp_path))
    assert (tmp_path / "mine" / "photo.png").read_bytes() == b"x"
