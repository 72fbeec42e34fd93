"""A user id without HOME and without an entry in /etc/passwd, as containers with a numeric user have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from polygen_stream.assets.hub import hub_cache
from polygen_stream.assets.model_configs import absolute_model
from polygen_stream.assets.resources import absolute_recipe, config_path
from polygen_stream.base.errors import UserError
from polygen_stream.base.home import expand_home, has_home
from polygen_stream.engine.cache import EngineCache, default_cache
from polygen_stream.evaluate.transfer.folder import default_folder, has_default_folder


@pytest.fixture
def homeless(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "POLYGEN_STREAM_CACHE", "POLYGEN_STREAM_PICTURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))


@pytest.mark.parametrize(
    ("ask", "remedy"),
    [
        (default_cache, "set POLYGEN_STREAM_CACHE"),
        (EngineCache, "set POLYGEN_STREAM_CACHE"),
        (default_folder, "set POLYGEN_STREAM_PICTURES"),
        (lambda: config_path("~/run.toml"), "write the path without ~"),
        (lambda: absolute_recipe("~/my_sd.toml", Path()), "write the path without ~"),
        (lambda: absolute_model("~/my_clip.json", Path()), "write the path without ~"),
    ],
)
def test_what_lies_in_the_home_folder_is_refused_in_one_line(homeless, ask, remedy):
    with pytest.raises(UserError, match=r"HOME is not set and user id .* has no entry in /etc/passwd") as refused:
        ask()
    assert remedy in str(refused.value)


def test_without_a_home_folder_no_pictures_were_fetched(homeless):
    assert not has_default_folder()


def test_the_hubs_cache_is_no_folder_called_tilde(homeless, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~/.cache/huggingface/hub")
    with pytest.raises(UserError, match="set HF_HOME"):
        hub_cache()


def test_variables_take_the_place_of_a_home_folder(homeless, monkeypatch, tmp_path):
    assert not has_home()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "polygen-stream"
    monkeypatch.setenv("POLYGEN_STREAM_CACHE", str(tmp_path / "engines"))
    assert default_cache() == tmp_path / "engines"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert has_home() and expand_home("~/run.toml") == tmp_path / "run.toml"


def test_a_user_who_does_not_exist_is_named():
    with pytest.raises(UserError, match="there is no user nosuchuser0 here"):
        expand_home("~nosuchuser0/run.toml")


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"cannot be written .*: set POLYGEN_STREAM_CACHE"),
        EngineCache(tmp_path / "file" / "cache").workspace("x"),
    ):
        pass
