from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from polygen_stream.assets.resources import config_path, preset_names, recipe_names, recipe_path
from polygen_stream.base.errors import UserError
from polygen_stream.config import (
    RunConfig,
    config_keys,
    curriculum_of,
    curriculum_shares,
    dump_config,
    expected_group_draws,
    load_config,
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def error_of(path: Path | str | None, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, words)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_micro_preset_shows_every_key_at_its_default():
    shown = tomllib.loads(config_path("micro").read_text())
    flat = {
        f"{name}.{leaf}" if leaf else name
        for name, value in shown.items()
        for leaf in (value if isinstance(value, dict) else [""])
    }
    assert flat == set(config_keys())
    assert load_config("micro") == RunConfig()


@pytest.mark.parametrize("name", preset_names())
def test_presets_load(name):
    assert load_config(name).generators.recipes


def test_a_file_needs_only_what_differs(tmp_path):
    config = load_config(written(tmp_path, "seed = 7\n[train]\nsteps = 12\n"))
    assert (config.seed, config.train.steps, config.train.batch) == (7, 12, RunConfig().train.batch)


def test_overrides_win_over_the_file_and_are_typed_by_the_schema(tmp_path):
    path = written(tmp_path, "[train]\nsteps = 12\n")
    words = ["--train.steps", "34", "--train.lr=1", "--name", "5", "--generators.recipes", "micro/sd15, micro/sana"]
    config = load_config(path, words)
    assert (config.train.steps, config.train.lr, config.name) == (34, 1.0, "5")
    assert config.generators.recipes == ("micro/sd15", "micro/sana")
    assert load_config(path, ['--generators.recipes=["micro/sd2"]']).generators.recipes == ("micro/sd2",)
    assert load_config(path, {"train.steps": "56"}).train.steps == 56


def test_a_dumped_config_loads_as_the_same_config(tmp_path):
    config = load_config(None, ["--train.lr", "0.1234567890123", "--seed", str(2**62), "--curriculum.end", "0.3"])
    dump_config(config, tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml") == config


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_config().train.steps = 5


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[train]\nstesp = 3\n", ["unknown key train.stesp", "did you mean train.steps?", "run.toml"]),
        ("steps = 3\n", ["unknown key steps", "did you mean train.steps?"]),
        ("[trian]\nlr = 3\n", ["unknown key trian", "train"]),
        ("[train]\nsteps = '3'\n", ["run.toml", "train.steps", "'3'", "an integer"]),
        ("[train]\nsteps = 1.5\n", ["train.steps", "1.5", "an integer"]),
        ("[train]\nsteps = { a = 1, b = 2 }\n", ["train.steps = {...}, expected an integer"]),
        ("[generators]\nrecipes = [{ a = 1 }]\n", ["generators.recipes = {...}, expected a string"]),
        ("[train]\nsteps = true\n", ["train.steps", "True", "an integer"]),
        ("[train]\nlr = 'fast'\n", ["train.lr", "'fast'", "a number"]),
        ("[train]\nlr = nan\n", ["train.lr", "nan", "a finite number"]),
        ("[train]\nlr = 0.0\n", ["train.lr", "more than 0"]),
        ("[train]\nprecision = 'fp8'\n", ["train.precision", "'fp8'", "'auto', 'fp32' or 'bf16'"]),
        ("train = 5\n", ["train = 5", "a table, [train]"]),
        ("name = '../elsewhere'\n", ["name", "'../elsewhere'", "letters, digits"]),
        ("seed = -1\n", ["seed", "-1", "at least 0"]),
        ("[ring]\nimage_size = 99999999999\n", ["ring.image_size", "at most 8192"]),
        ("[curriculum]\nend = 0.6\n", ["curriculum.end", "0.6", "at most 0.5"]),
        ("[generators]\ndevice = 'cuda:x'\n", ["generators.device", "'cuda:x'", "expected 'cpu', 'cuda' or 'cuda:N'"]),
        ("[train]\ndevice = 'cuda:-1'\n", ["train.device", "'cuda:-1'", "'cuda:N'"]),
        ("[evaluate]\ndevice = ''\n", ["evaluate.device", "''", "'cuda:N'"]),
        ("[launch.renderers]\n'micro/sd15' = ['cuda:0', 'tpu']\n", ["launch.renderers", "'tpu'", "'cuda:N'"]),
        ("[train]\ncompile = 'often'\n", ["train.compile", "'often'", "expected true or false"]),
        ("[launch]\nrenderers = 3\n", ["launch.renderers", "expected a table"]),
        ("[generators]\nrecipes = 'micro/sd15'\n", ["generators.recipes", "a list of strings"]),
        ("[generators]\nrecipes = [1]\n", ["generators.recipes", "a string"]),
        ("[generators]\nrecipes = []\n", ["generators.recipes", "empty"]),
        ("[generators]\nrecipes = ['micro/sd15', 'micro/sd15']\n", ["generators.recipes", "twice"]),
        ("[generators]\nrecipes = ['micro/sd16']\n", ["'micro/sd16'", "did you mean micro/sd15?", "micro/sana"]),
        ("[generators]\nrecipes = ['../configs/micro']\n", ["unknown generator '../configs/micro'"]),
        ("[evaluate]\nevery = 250\n", ["evaluate.every = 250", "checkpoint_every = 200", "evaluate.every = 0"]),
        ("train = [\n", ["run.toml", "not valid TOML", "end of document"]),
        ("a = 1\na = 2\n", ["not valid TOML"]),
    ],
)
def test_a_wrong_file_is_explained(tmp_path, text, parts):
    message = error_of(written(tmp_path, text))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--train.stesp", "3"], ["unknown option --train.stesp", "did you mean --train.steps?"]),
        (["--train", "3"], ["unknown option --train"]),
        (["--nothing.like.it", "3"], ["unknown option --nothing.like.it", "`polygen-stream config` prints every key"]),
        (["--train.steps"], ["--train.steps has no value"]),
        (["--train.steps", "--seed", "1"], ["--train.steps has no value"]),
        (["--train.steps="], ["--train.steps", "''", "an integer"]),
        (["--train.steps", "many"], ["--train.steps = 'many'", "an integer"]),
        (["--train.steps", "1\nlr = 5"], ["--train.steps", "an integer"]),
        (["train.steps", "3"], ["unexpected argument 'train.steps'", "--section.key VALUE"]),
    ],
)
def test_a_wrong_override_is_explained(words, parts):
    message = error_of(None, *words)
    assert all(part in message for part in parts), message


# The arithmetic below is about these values, whatever the preset's are.
SIZES = {
    "captions.target": "2400",
    "generators.positives": "4",
    "generators.negatives": "4",
    "ring.slots": "8192",
    "ring.min_fill": "64",
    "train.steps": "600",
    "train.batch": "64",
}
SIZED = [word for key, value in SIZES.items() for word in (f"--{key}", value)]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        # 4 batches of 64 captions x 4 images
        (["--ring.slots", "1000"], ["ring.slots = 1000", "1024"]),
        (["--ring.min_fill", "63"], ["ring.min_fill = 63", "train.batch = 64"]),
        # 1025 groups x (4 + 4) images
        (["--ring.min_fill", "1025"], ["ring.min_fill = 1025", "8200", "ring.slots = 8192"]),
        # 32 of a batch's 64 texts are negatives at the end, and about 39 % of the captions get one
        (["--captions.target", "82"], ["captions.target = 82", "32", "83"]),
        (["--captions.target", "63"], ["captions.target = 63", "ring.min_fill = 64"]),
        (["--generators.negatives", "5"], ["generators.negatives = 5", "generators.positives = 4"]),
        (["--generators.negatives", "0"], ["curriculum.start = 0.0", "end = 0.5", "generators.negatives = 0"]),
        (["--train.images_per_text", "5"], ["train.images_per_text = 5", "generators.positives = 4"]),
        # 8 batches of 64 captions x (4 + 4) images
        (["--method", "author", "--ring.slots", "4095"], ["ring.slots = 4095", "4096", "co_occurrence"]),
        (["--method", "author", "--generators.negatives", "0"], ["'co_occurrence'", "generators.negatives = 0"]),
        (["--method", "author", "--curriculum.leftover_age", "3"], ["leftover_age = 3", "'co_occurrence'"]),
        # 600 steps x 64 texts x (1 - 0.25) groups a text
        (["--ring.max_times_sampled", "11"], ["28800", "2400", "11", "26400"]),
    ],
)
def test_a_run_that_cannot_progress_is_refused_with_its_arithmetic(words, parts):
    message = error_of("micro", *SIZED, *words)
    assert all(part in message for part in parts), message


ENGLISH = ["--captions.bank", "english", "--captions.concepts", "bank.json"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--train.ranks", "2", "--train.device", "cuda:0"], ["'cuda:0' is one device", "train.ranks = 2", "'cuda'"]),
        (["--train.ranks", "40", "--train.batch", "64"], ["train.batch = 64", "train.ranks = 40", "at least 80"]),
        (["--train.image_image_head", "64"], ["image_image_head = 64", "image_image_weight = 0"]),
        (["--train.hn_t2i", "all", "--train.objective", "infonce"], ["hn_t2i = 'all'", "objective = 'infonce'"]),
        (
            ["--captions.structured_output_regex", "[a-z]+"],
            ["structured_output_regex = '[a-z]+'", "source = 'transformers'", "'vllm' or 'openai'"],
        ),
        (["--captions.sleep_after_s", "5"], ["sleep_after_s = 5.0", "source = 'transformers'", "'vllm'"]),
        (
            ["--captions.source", "vllm", "--captions.structured_output_regex", "("],
            ["structured_output_regex = '('", "no regular expression"],
        ),
        (
            ["--synthesis.policy", "hardest", "--ring.mode", "deterministic"],
            ["synthesis.policy = 'hardest'", "ring.mode = 'deterministic'", "or ring.mode = 'throughput'"],
        ),
        (
            ["--synthesis.policy", "hardest", "--captions.source", "shards", "--captions.shards", "x"],
            ["synthesis.policy = 'hardest'", "captions.source = 'shards'", "set synthesis.policy = 'uniform'"],
        ),
        (["--synthesis.policy", "hardes"], ["synthesis.policy", "did you mean 'hardest'?"]),
        (["--synthesis.by", "colour"], ["synthesis.by", "'axis', 'concept' or 'generator'"]),
        (["--ring.catch_up", "4", "--ring.sampler", "uniform"], ["ring.catch_up = 4", "ring.sampler = 'uniform'"]),
        (["--ring.catch_up", "4", "--method", "author"], ["ring.catch_up = 4", "kind = 'co_occurrence'"]),
        (
            ["--ring.catch_up", "4", "--ring.max_age", "50"],
            ["catch_up = 4", "max_age = 50", "or ring.max_age = 0"],
        ),
        (["--curriculum.staircase", "true"], ["curriculum.staircase = true", "curriculum.epoch_captions = 0"]),
        (["--captions.concepts", "bank.json"], ["concepts = 'bank.json'", "captions.bank = 'micro'"]),
        ([*ENGLISH, "--captions.source", "grammar"], ["source = 'grammar'", "'english'"]),
        (ENGLISH, ["captions.writer = 'package:mistral'", "captions.bank is 'english'"]),
        (ENGLISH[:2], ["captions.bank = 'english'", "captions.concepts", "polygen-stream concepts build"]),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(words, parts):
    message = error_of("micro", *words)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    "words",
    [
        ["--ring.slots", "1024"],
        ["--ring.min_fill", "1024"],
        ["--captions.target", "64", "--curriculum.end", "0"],
        ["--captions.target", "83"],
        ["--generators.negatives", "0", "--curriculum.end", "0"],
        ["--method", "author", "--ring.slots", "4096"],
        ["--method", "author", "--ring.slots", "1024", "--ring.mode", "deterministic"],
        ["--train.images_per_text", "4"],
        ["--ring.max_times_sampled", "12"],
        ["--ring.max_times_sampled", "1", "--captions.target", "0"],
    ],
)
def test_the_limits_themselves_are_accepted(words):
    load_config("micro", [*SIZED, *words])


def test_expected_draws_follow_the_schedule():
    assert expected_group_draws(load_config(None, SIZES)) == 600 * 48  # p rises from 0 to 0.5: on average a quarter
    assert expected_group_draws(load_config(None, {**SIZES, "curriculum.schedule": "constant"})) == 600 * 32
    # 40 epochs of 2000 captions are more than 600 steps of at most 64 captions: p ends below 0.25
    slow = load_config(None, {**SIZES, "curriculum.epoch_captions": "2000"})
    assert expected_group_draws(slow) > 600 * 64 * (1 - 0.125)
    assert curriculum_shares(slow)[-1] == curriculum_of(slow).share(600) < 0.25


def test_with_co_occurrence_a_caption_shown_text_by_text_is_drawn_twice():
    author = {**SIZES, "method": "author", "curriculum.schedule": "constant"}
    for share, draws in ((0.0, 64), (0.25, 64 * 1.25 / 1.5), (0.5, 32)):
        config = load_config(None, {**author, "curriculum.end": str(share), "curriculum.start": str(share)})
        assert expected_group_draws(config) == round(600 * draws)


def test_a_method_sets_what_is_not_set_beside_it(tmp_path):
    def options(*words: str, file: Path | str = "micro") -> tuple[str, str, str]:
        config = load_config(file, words)
        return config.method, config.curriculum.kind, config.train.hn_weight

    assert options() == ("digest", "share", "text_share")
    assert options("--method", "author") == ("author", "co_occurrence", "one")
    assert options("--train.hn_weight", "text_share", "--method", "author") == ("author", "co_occurrence", "text_share")
    file = tmp_path / "mine.toml"
    file.write_text('method = "author"\n[curriculum]\nkind = "share"\n')
    assert options(file=file) == ("author", "share", "one")
    assert options("--method", "author", file=file) == ("author", "co_occurrence", "one")
    assert "--method = 'paper', expected one of 'digest' or 'author'" in error_of("micro", "--method", "paper")
    file.write_text("method = 3\n")
    assert "method = 3" in error_of(file)


def test_a_dumped_config_keeps_what_was_set_beside_its_method(tmp_path):
    config = load_config(None, {"method": "author", "curriculum.kind": "share"})
    dump_config(config, tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml") == config


def test_files_that_cannot_be_read_are_explained(tmp_path):
    assert "a folder" in error_of(tmp_path) and "micro" in error_of(tmp_path)
    assert "does not exist" in error_of(tmp_path / "none.toml") and "(micro" in error_of("none")
    latin = tmp_path / "latin.toml"
    latin.write_bytes("name = 'caf\u00e9'".encode("latin-1"))
    assert "latin.toml is not UTF-8" in error_of(latin)


def test_a_preset_name_wins_over_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "micro").mkdir()
    monkeypatch.chdir(tmp_path)
    assert config_path("micro").is_file()


def test_recipes_are_found_by_name():
    assert {"micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo"} <= set(recipe_names())
    assert recipe_path("micro/sd15").is_file()


def test_data_of_evaluation_is_found_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "configs" / "pictures").mkdir(parents=True)
    (tmp_path / "here" / "own").mkdir(parents=True)
    (tmp_path / "here" / "micro").mkdir()
    file = tmp_path / "configs" / "mine.toml"
    file.write_text('[evaluate]\ndata = "sets"\ntasks = ["zero_shot:pictures", "zero_shot:cifar10", "micro:seen"]\n')
    monkeypatch.chdir(tmp_path / "here")
    found = load_config(file).evaluate
    assert found.tasks == (f"zero_shot:{tmp_path}/configs/pictures", "zero_shot:cifar10", "micro:seen")
    assert found.data == f"{tmp_path}/configs/sets"
    overridden = load_config(file, {"evaluate.tasks": "zero_shot:own,zero_shot:micro,sugarcrepe_pp_tot"}).evaluate
    assert overridden.tasks == (f"zero_shot:{tmp_path}/here/own", "zero_shot:micro", "sugarcrepe_pp_tot")
    url = "https://host/wds_{dataset_cleaned}"
    assert load_config(None, {"evaluate.data": url}).evaluate.data == url
