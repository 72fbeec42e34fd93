"""What is read out of nvidia-smi, as a script of its name answers."""

from __future__ import annotations

import pytest

from polygen_stream.base.nvidia_smi import NoNvidiaSmi, query_gpus


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a script of this name on the path. nvidia_smi(body)."""

    def install(body: str) -> None:
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    return install


def test_one_row_per_gpu_and_no_warnings(nvidia_smi):
    nvidia_smi(
        """cat <<END
0, NVIDIA H100 80GB HBM3, 81559
1, NVIDIA GB10, [N/A]
WARNING: infoROM is corrupted at gpu 0000:3B:00.0
END
exit 14"""
    )
    assert query_gpus("name", "memory.total") == [("NVIDIA H100 80GB HBM3", "81559"), ("NVIDIA GB10", "[N/A]")]


def test_the_question(nvidia_smi):
    nvidia_smi('echo "0, $*" | tr -s "," ";" | sed "s/;/,/"')
    [(asked,)] = query_gpus("memory.used", gpu="GPU-8f1c")
    assert asked == "--query-gpu=index;memory.used --format=csv;noheader;nounits --id=GPU-8f1c"


def test_no_answer_is_an_error_that_says_why(nvidia_smi, monkeypatch):
    nvidia_smi('echo "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."; exit 9')
    with pytest.raises(NoNvidiaSmi, match="could not communicate with the NVIDIA driver"):
        query_gpus("name")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoNvidiaSmi, match="does not run here"):
        query_gpus("name")
