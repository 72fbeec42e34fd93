"""Weights of others: what open_clip's trainer writes is loaded, and whatever else is named as what it is."""

from __future__ import annotations

import io
import json

import open_clip
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polygen_stream.base.errors import UserError
from polygen_stream.checkpoints import read_meta
from polygen_stream.evaluate.encoder import load_encoder
from polygen_stream.evaluate.weights import read_weights
from polygen_stream.train import model as our_models  # noqa: F401  # tells open_clip of the model `micro`
from polygen_stream.train.checkpoint import read_model_state


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(open_clip.create_model("micro", load_weights=False).state_dict())


@pytest.fixture(scope="module")
def features(state, tmp_path_factory) -> torch.Tensor:
    return encoded(save(state, tmp_path_factory.mktemp("plain") / "plain.pt"))


def save(content: object, file):
    torch.save(content, file)
    return file


def encoded(file) -> torch.Tensor:
    return load_encoder("micro", str(file)).texts(["a red house"])


def test_what_trainers_write_is_loaded(state, features, tmp_path):
    siglip = {"epoch": 1, "name": "x", "state_dict": {**state, "logit_bias": torch.tensor(-10.0)}}
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    compiled = {"state_dict": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}}
    both = {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}}
    scale = {**state, "logit_scale": state["logit_scale"].reshape(1)}
    for number, content in enumerate((siglip, wrapped, compiled, both, scale)):
        assert torch.equal(encoded(save(content, tmp_path / f"{number}.pt")), features)


def test_the_content_decides_and_not_the_name(state, features, tmp_path):
    save(state, tmp_path / "a.safetensors")
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "b.pt")
    assert all(torch.equal(encoded(tmp_path / name), features) for name in ("a.safetensors", "b.pt"))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n", "a pointer of Git LFS"),
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
        (b"no weights at all", "safetensors"),
    ],
)
def test_a_file_that_is_something_else_is_called_what_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as problem:
        read_weights(tmp_path / name)
    assert "\n" not in str(problem.value) and "weights_only" not in str(problem.value)


def test_code_is_refused_without_advice_to_run_it(tmp_path):
    save({"state_dict": torch.nn.Linear(1, 1)}, tmp_path / "module.pt")
    with pytest.raises(
        UserError, match=r"it needs torch\.nn\.modules\.linear\.Linear, which could run code"
    ) as problem:
        read_weights(tmp_path / "module.pt")
    assert "weights_only" not in str(problem.value)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "script.pt")
    with pytest.raises(UserError, match="it is TorchScript, which is code"):
        read_weights(tmp_path / "script.pt")


def test_what_holds_no_state_dict_or_another_models_is_refused(state, tmp_path):
    for content in ({}, [], {"state_dict": {"a": 1}}, {1: torch.zeros(1)}, torch.zeros(1)):
        with pytest.raises(UserError, match="it holds no state dict"):
            read_weights(save(content, tmp_path / "w.pt"))
    state = {name: tensor for name, tensor in state.items() if name != "logit_scale"}
    with pytest.raises(UserError, match=r"cannot use .*w\.pt as weights of micro: .*logit_scale") as problem:
        encoded(save(state, tmp_path / "w.pt"))
    assert "\n" not in str(problem.value)


def stored(write) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


SEEDS = [
    stored(lambda stream: torch.save({"a": torch.zeros(3)}, stream)),
    stored(lambda stream: torch.save({"a": torch.zeros(3)}, stream, _use_new_zipfile_serialization=False)),
    safetensors.torch.save({"a": torch.zeros(3)}),
]
CHANGES = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(SEEDS), CHANGES, st.integers(0, 3000) | st.none(), st.sampled_from(["any.pt", "any.safetensors"])
)
def test_any_bytes_are_weights_or_a_user_error(tmp_path_factory, seed, changes, length, name):
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(data[:length])
    (file.parent / "model.safetensors").write_bytes(data[:length])
    for read in (lambda: read_weights(file), lambda: read_model_state(file.parent)):
        try:
            assert all(isinstance(tensor, torch.Tensor) for tensor in read().values())
        except UserError as problem:
            assert "\n" not in str(problem)


VALUES = (
    st.none() | st.integers(-5, 5) | st.booleans() | st.floats() | st.text(max_size=3) | st.just([]) | st.just("micro")
)


@settings(deadline=None, max_examples=150)
@given(
    st.binary(max_size=20)
    | st.dictionaries(st.sampled_from(["step", "final", "model", "files"]), VALUES).map(
        lambda x: json.dumps(x).encode()
    )
)
def test_any_meta_json_is_a_checkpoints_or_a_user_error(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    (folder / "meta.json").write_bytes(data)
    try:
        found = read_meta(folder)
    except UserError as problem:
        assert "\n" not in str(problem)
    else:
        assert found["step"] >= 0 and isinstance(found["final"], bool) and isinstance(found["model"], str)
