"""The pages: links lead somewhere, commands exist, the README stays short, and the quickstart's Python runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from run_folders import make_run

from polygen_stream.cli import app
from polygen_stream.generators.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
QUICKSTART = ROOT / "docs" / "quickstart.md"


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not link.startswith(("http", "#", "mailto:"))]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_are_headings(page: Path):
    for link in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file if file else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", target, re.M)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, link


def test_commands_exist():
    commands = set(typer.main.get_command(app).commands)
    shown = {
        word: page.name
        for page in PAGES
        for word in re.findall(r"^ {4,}polygen-stream ([a-z][a-z-]+)", page.read_text(encoding="utf-8"), re.M)
    }
    assert set(shown) <= commands, {word: page for word, page in shown.items() if word not in commands}
    assert commands - {"version"} <= set(shown), "a command that no page shows"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path):
    named = re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*/[a-z_0-9]+\.(?:py|toml|txt))", page.read_text(encoding="utf-8"))
    shipped = [name for name in named if name.split("/")[0] not in ("runs",)]
    missing = [name for name in shipped if not any((base / name).exists() for base in (ROOT, ROOT / "polygen_stream"))]
    assert not missing


def test_every_page_is_listed():
    listed = set(re.findall(r"\]\(([^)#\s]+\.md)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= listed, pages - listed


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_quickstarts_python_runs(number: int, tmp_path: Path):
    code = python_blocks(QUICKSTART)[number]
    check = (
        "assert images.shape == (8, 32, 32, 3) and len(set(captions)) == 4",
        "assert images.shape == (2, 32, 32, 3)",
        "assert len(texts) == 2 and not torch.equal(*texts)",
    )
    if number == 2:
        make_run(tmp_path / "runs" / "short")
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check[number]}\nprint('ran')"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_the_recipe_of_the_page_on_extending_loads(tmp_path: Path):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (tmp_path / "my_sd15").mkdir()
    (tmp_path / "my_sd15" / "model_index.json").write_text("{}")
    (tmp_path / "my_sd15.toml").write_text(re.search(r"^```toml\n(.*?)^```", page, re.M | re.S)[1])
    recipe = load_recipe(str(tmp_path / "my_sd15.toml"))
    assert (recipe.folder, recipe.engine) == (tmp_path / "my_sd15", None)
