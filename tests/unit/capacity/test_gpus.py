"""GPUs in words, and those of this machine."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.gpus import GIB, local_gpus, parse_gpus


@pytest.mark.parametrize(
    ("text", "names", "gib"),
    [
        ("8xH100-80G", ["H100-80G"] * 8, 80), ("2", ["A100-80G"] * 2, 80), ("A100-40G", ["A100-40G"], 40),
        ("1xRTX4090", ["RTX4090-24G"], 24), ("1xA100-80G,1xH100-80G", ["A100-80G", "H100-80G"], 80),
    ],
)  # fmt: skip
def test_gpus_in_words(text, names, gib):
    gpus = parse_gpus(text)
    assert [gpu.name for gpu in gpus] == names and [gpu.index for gpu in gpus] == list(range(len(names)))
    assert {gpu.nbytes for gpu in gpus} == {gib * GIB}


@pytest.mark.parametrize("text", ["0xH100-80G", "eight", "8x", "H100:8", ""])
def test_other_words_for_gpus_are_refused(text):
    with pytest.raises(UserError, match="--gpus"):
        parse_gpus(text)


@pytest.mark.parametrize(
    ("mask", "places"), [(None, "0123"), ("", ""), ("-1", ""), ("2,1", "21"), ("GPU-8f1c", "0123"), ("7", "0123")]
)
def test_the_gpus_of_this_machine_are_those_that_may_be_seen(
    mask: str | None, places: str, monkeypatch: pytest.MonkeyPatch
):
    installed = [("NVIDIA A10", f"{23000 + place}", "8.6") for place in range(4)]
    monkeypatch.setattr("polygen_stream.capacity.gpus.query_gpus", lambda *fields: installed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if mask is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    found = local_gpus()
    assert [(gpu.index, gpu.nbytes // 2**20 - 23000, gpu.visible_as) for gpu in found] == [
        (index, int(place), place) for index, place in enumerate(places)
    ]
    assert all((gpu.name, gpu.capability) == ("NVIDIA A10", "SM86") for gpu in found)


def test_a_gpu_whose_memory_nvidia_smi_does_not_know_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polygen_stream.capacity.gpus.query_gpus", lambda *fields: [("GB10", "[N/A]", "12.1")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def without_cuda(index: int) -> object:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr("torch.cuda.get_device_properties", without_cuda)
    [gpu] = local_gpus()
    assert (gpu.name, gpu.nbytes) == ("GB10", 0)
