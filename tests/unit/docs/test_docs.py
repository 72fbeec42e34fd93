"""The pages: links lead somewhere, commands exist, the README stays short, and the quickstart's Python runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from run_folders import make_run

from polygen_stream.assets.resources import model_path
from polygen_stream.cli import app
from polygen_stream.config import load_config
from polygen_stream.generators.recipe import OF_THE_FILE, EngineSpec, Recipe, SchedulerSpec, TensorRtSpec, load_recipe

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
QUICKSTART = ROOT / "docs" / "quickstart.md"


def section(page: str, heading: str) -> str:
    """The text of a page's section, up to the next heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.search(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)[1]


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


def test_the_keys_of_a_recipe_are_those_of_its_model():
    rows = re.findall(r"^\| (`[^|]*`) \| [^|]+ \| ([^|]+) \|$", section("extending.md", "The keys of a recipe"), re.M)
    told = {key.strip("[]"): default for keys, default in rows for key in re.findall(r"`([^`]+)`", keys)}
    fields = {name: field for name, field in Recipe.model_fields.items() if name not in OF_THE_FILE}
    for table, model in (("scheduler", SchedulerSpec), ("engine", EngineSpec)):
        fields |= {f"{table}.{field.alias or name}": field for name, field in model.model_fields.items()}
    assert set(told) == set(fields)
    for key, field in fields.items():
        assert (told[key] == "required") == field.is_required(), key
        if not field.is_required() and isinstance(field.default, float):
            assert float(told[key]) == field.default, key


def test_the_keys_of_tensorrt_are_those_of_its_model():
    rows = re.findall(r"^\| `(\w+)` \|", section("engines.md", "What a recipe can ask of TensorRT"), re.M)
    assert rows and set(rows) == set(TensorRtSpec.model_fields)


@pytest.mark.parametrize("name", ["sd15", "sd2", "sana", "sdxl_turbo"])
def test_the_micro_weights_that_pages_name_are_there(name: str):
    assert model_path(f"package:{name}") == str(ROOT / "polygen_stream" / "micro" / "weights" / name)
    assert name in section("extending.md", "A generator")


def test_the_recipe_of_the_page_on_extending_loads(tmp_path: Path):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (tmp_path / "my_sd15").mkdir()
    (tmp_path / "my_sd15" / "model_index.json").write_text("{}")
    (tmp_path / "my_sd15.toml").write_text(re.search(r"^```toml\n(.*?)^```", page, re.M | re.S)[1])
    recipe = load_recipe(str(tmp_path / "my_sd15.toml"))
    assert (recipe.folder, recipe.engine) == (tmp_path / "my_sd15", None)


def test_the_recipe_of_that_page_changed_as_it_says_renders_for_the_micro_ring(tmp_path: Path):
    from polygen_stream.generators.pipelines import load_generator

    text = re.search(r"^```toml\n(.*?)^```", section("extending.md", "A generator"), re.M | re.S)[1]
    for old, new in (("512", "32"), ('"float16"', '"float32"'), ('"./my_sd15"', '"package:sd15"')):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "mine.toml").write_text(text)
    size = load_config().ring.image_size
    pictures = load_generator(load_recipe(str(tmp_path / "mine.toml")), size=size).render(["a red car"], [1])
    assert pictures.shape == (1, size, size, 3) and pictures.std() > 3
