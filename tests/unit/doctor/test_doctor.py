from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from polygen_stream.doctor.doctor import OPTIONAL, REQUIRED, Finding, recipes, show, to_json
from polygen_stream.doctor.probes import QUESTIONS, ask


@pytest.fixture
def fake_ray(tmp_path, monkeypatch):
    """Puts a module called ray, with the given source, where this interpreter and its children find it first."""

    def write(source: str) -> None:
        (tmp_path / "ray.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def test_every_package_that_doctor_looks_for_can_be_asked():
    assert {*REQUIRED, *OPTIONAL} <= set(QUESTIONS)
    for module in ("webdataset", "prometheus_client", "torch"):  # the development environment has them
        answer = ask(module)
        assert answer.state == "works" and answer.text[0].isdigit(), answer


def test_a_package_that_imports_is_asked_for_its_version(fake_ray):
    fake_ray("print('banner of a chatty package')\n__version__ = '9.8'\n")
    assert (ask("ray").state, ask("ray").text) == ("works", "9.8")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "exit code -11"),
    ],
)
def test_a_package_that_is_there_but_broken_says_why(fake_ray, source, words):
    fake_ray(source)
    answer = ask("ray")
    assert answer.state == "broken" and words in answer.text


def test_an_import_that_hangs_is_given_up(fake_ray):
    fake_ray("import time; time.sleep(100)")
    assert ask("ray", timeout_s=0.5).state == "slow"


FINDINGS = [
    Finding("package", "torch", "ok", "2.15.0"),
    Finding("package", "ray", "missing", "not installed", "pip install -e '.[ray]'"),
]


@pytest.mark.parametrize("terminal", [True, False])
def test_commands_are_shown_as_they_are_typed(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)
    show(FINDINGS, console)
    assert "pip install -e '.[ray]'" in console.file.getvalue()


def test_json_has_every_finding():
    assert [entry["item"] for entry in json.loads(to_json(FINDINGS))] == ["torch", "ray"]


def test_every_recipe_is_listed_with_its_terms_and_the_way_to_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    listed = {finding.item: finding for finding in recipes()}
    assert listed["micro/sd15"].state == "ok"
    assert listed["sdxl_turbo"].found == "licence sai-nc-community, NON-COMMERCIAL; weights not here"
    assert listed["sdxl_turbo"].advice.startswith("hf download stabilityai/sdxl-turbo --revision 71153311")
    assert ", gated; " in listed["sd35_medium"].found
    assert "huggingface.co/stabilityai/stable-diffusion-3.5-medium" in listed["sd35_medium"].advice
    assert [name for name, finding in listed.items() if "NON-COMMERCIAL" in finding.found] == ["sdxl_turbo"]


@pytest.mark.slow
def test_doctor_examines_this_machine(tmp_path):
    command = [sys.executable, "-m", "polygen_stream", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    findings = {entry["item"]: entry for entry in json.loads(done.stdout)}
    for item in ("shared-memory ring", "torch", "torchvision", "open_clip", "diffusers", "transformers", "torchdata"):
        assert findings[item]["state"] == "ok", findings[item]
    assert all(
        entry["advice"] for entry in findings.values() if entry["state"] == "missing" and entry["part"] == "package"
    )
