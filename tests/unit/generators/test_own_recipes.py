"""A recipe of the user's own is given by the path of its file, from any directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from own_recipe import own_recipe

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.rates import find_rates
from polygen_stream.checkpoints import config_hash
from polygen_stream.config import dump_config, load_config
from polygen_stream.engine.architecture import architecture
from polygen_stream.fetch import repositories
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import build_process_plan


def test_weights_lie_beside_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = own_recipe(tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("recipes/mine.toml")
    assert (recipe.name, recipe.file, recipe.reference) == ("mine", file, str(file))
    assert recipe.source == str(tmp_path / "recipes" / "weights") and recipe.folder == tmp_path / "recipes" / "weights"
    bare = own_recipe(tmp_path / "recipes", "bare", weights="weights")
    assert load_recipe(str(bare)).source == recipe.source  # a folder that is there
    hub = own_recipe(tmp_path / "recipes", "hub", weights="somebody/model")
    assert load_recipe(str(hub)).source == "somebody/model" and load_recipe(str(hub)).on_hub
    shipped = own_recipe(tmp_path / "recipes", "shipped", weights="package:sd2")
    assert load_recipe(str(shipped)).source == load_recipe("micro/sd2").source


def test_it_draws_what_the_shipped_one_draws(tmp_path: Path):
    from polygen_stream.generators.pipelines import load_generator

    mine = load_generator(load_recipe(str(own_recipe(tmp_path)))).render(["a red car"], [1])
    assert np.array_equal(mine, load_generator(load_recipe("micro/sd15")).render(["a red car"], [1]))


def test_a_command_line_means_the_current_directory_and_a_file_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "configs").mkdir()
    mine, other = own_recipe(tmp_path / "configs"), own_recipe(tmp_path / "here")
    config_file = tmp_path / "configs" / "run.toml"
    config_file.write_text(
        '[generators]\nrecipes = ["./mine.toml", "micro/sana"]\n[launch.renderers]\n"./mine.toml" = ["cuda:0"]\n'
    )
    monkeypatch.chdir(tmp_path / "here")
    config = load_config(config_file)
    assert config.generators.recipes == (str(mine), "micro/sana") and config.generators.names == ("mine", "micro/sana")
    assert config.launch.renderers == {"mine": ("cuda:0",)}
    there = load_config(None, ["--generators.recipes", "micro/sana,./mine.toml"])
    assert there.generators.recipes == ("micro/sana", str(other))
    dump_config(there, tmp_path / "config.toml")  # as in a run folder
    monkeypatch.chdir("/")
    assert load_config(tmp_path / "config.toml") == there


def test_processes_and_the_ring_know_it_by_name(tmp_path: Path):
    config = load_config(None, {"generators.recipes": f"micro/sd15,{own_recipe(tmp_path, 'my.sd-1_5')}"})
    plan = build_process_plan(config)
    assert [each.name for each in plan.with_role("renderer")] == ["renderer-micro-sd15", "renderer-my.sd-1_5"]
    assert plan.ring.generators == ("micro/sd15", "my.sd-1_5")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a/mine", "b/mine"), r"a/mine.toml and .*b/mine.toml, whose generators would both be called mine: rename"),
        (("micro-sd15",), "micro/sd15 and .*micro-sd15.toml, whose generators would both be called micro-sd15"),
        (("mein modell",), "recipe file .*mein modell.toml': its name .* has to consist of letters, digits"),
    ],
)
def test_names_that_would_collide_are_refused(tmp_path: Path, names: tuple[str, ...], told: str):
    files = [str(tmp_path / f"{name}.toml") for name in names]
    with pytest.raises(UserError, match=told):
        load_config(None, {"generators.recipes": json.dumps(["micro/sd15", *files])})


def test_processes_that_would_collide_are_refused(tmp_path: Path):
    files = [str(own_recipe(tmp_path, name)) for name in ("sd", "sd-1")]
    words = {"generators.recipes": json.dumps(files), "launch.renderers": '{sd = ["cuda:0", "cuda:1"]}'}
    with pytest.raises(UserError, match="renderer sd #1 and renderer sd-1 would both be called renderer-sd-1"):
        build_process_plan(load_config(None, words))


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("nosuch.toml", "recipe .*nosuch.toml does not exist"),
        ("mine", r"of a recipe file give the whole name, mine\.toml"),
        ("micro/sanna", r"did you mean micro/sana\? .*your own is given by path"),
    ],
)
def test_a_recipe_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, told: str):
    own_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told):
        load_recipe(recipe)


def test_a_wrong_recipe_is_named_by_its_file(tmp_path: Path):
    from polygen_stream.generators.pipelines import load_generator

    file = own_recipe(tmp_path)
    text = file.read_text()
    file.write_text(f'name = "other"\n{text}')
    with pytest.raises(UserError, match=f"{file}: unknown key name: a generator has the name of its file"):
        load_recipe(str(file))
    file.write_text(text.replace("StableDiffusionPipeline", "StableDifusionPipeline"))
    with pytest.raises(UserError, match=f"{file}: diffusers has no pipeline"):
        load_generator(load_recipe(str(file)))
    file.write_text(text.replace("./weights", "./wights"))
    with pytest.raises(UserError, match=rf"no weights at {tmp_path}/wights; weights in {file} has to be a folder"):
        load_generator(load_recipe(str(file)))


def test_what_is_known_of_a_shipped_recipe_says_nothing_of_one_of_its_name(tmp_path: Path):
    file = str(own_recipe(tmp_path, "sd15", weights="somebody/model"))
    with pytest.raises(UserError, match="architecture of unet is not known"):
        architecture(load_recipe(file), "unet")
    with pytest.raises(UserError, match=f"no rate of generator sd15: .*bench generators {file}"):
        find_rates(load_config("paper", {"generators.recipes": file, "launch.renderers": "{}"}))
    (found,) = repositories(load_config(None, {"generators.recipes": file}))
    assert found.name == "somebody/model" and found.revision == "main"


def test_moving_a_recipe_leaves_checkpoints_usable(tmp_path: Path):
    one, two = own_recipe(tmp_path / "one"), own_recipe(tmp_path / "two")
    hashes = {config_hash(load_config(None, {"generators.recipes": str(file)})) for file in (one, two)}
    assert len(hashes) == 1
    assert hashes != {config_hash(load_config(None, {"generators.recipes": "micro/sd15"}))}
