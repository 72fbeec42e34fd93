from __future__ import annotations

import io
import json
import resource
import shlex
import subprocess
import sys

import pytest
from rich.console import Console

from polygen_stream.doctor.finding import Finding
from polygen_stream.doctor.machine import examine_gpus, installed_gpus
from polygen_stream.doctor.packages import OPTIONAL, REQUIRED, examine_packages
from polygen_stream.doctor.probes import IMPORTS, KERNELS, run_probe
from polygen_stream.doctor.report import show, to_json
from polygen_stream.doctor.weights import examine_recipes


@pytest.fixture
def fake_ray(tmp_path, monkeypatch):
    """Puts a module called ray, with the given source, where this interpreter and its children find it first."""

    def write(source: str) -> None:
        (tmp_path / "ray.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def doctor(*words: str, cwd) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "doctor", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=250)


def test_every_package_that_doctor_looks_for_can_be_imported_as_a_probe():
    assert {*REQUIRED, *OPTIONAL} <= set(IMPORTS)
    assert set(KERNELS) <= set(IMPORTS)


def test_versions_are_read_without_importing_anything(tmp_path):
    code = (
        "import sys; from polygen_stream.doctor.packages import REQUIRED, OPTIONAL, examine_packages; "
        "found = {each.item: each.found for each in examine_packages(gpu=False)}; "
        "assert all(found[name][0].isdigit() for name in REQUIRED), found; "
        "print(*({*REQUIRED, *OPTIONAL} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_an_examination_takes_little_processor_time(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = doctor(cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    if "GPU 0 " not in done.stdout:  # on a GPU a kernel of each package is run
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5.0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "exit code -11"),
    ],
)
def test_a_probe_that_fails_says_why(source, words):
    answer = run_probe(source)
    assert answer.state == "broken" and words in answer.text


def test_a_probe_that_hangs_is_given_up():
    assert run_probe("import time; time.sleep(100)", timeout_s=0.5).state == "slow"


def test_a_probe_answers_with_its_last_line():
    answer = run_probe("print('banner of a chatty package'); print('9.8')")
    assert (answer.state, answer.text) == ("works", "9.8")


def test_a_package_whose_import_fails_is_found_when_imports_are_asked_for(fake_ray, monkeypatch):
    monkeypatch.setattr("polygen_stream.doctor.packages.REQUIRED", ())
    monkeypatch.setattr("polygen_stream.doctor.packages.OPTIONAL", {"ray": OPTIONAL["ray"]})
    fake_ray("raise ImportError('libcudart.so.12: cannot open shared object file')")
    [fast], [thorough] = examine_packages(gpu=False), examine_packages(gpu=False, imports=True)
    assert fast.state == "ok"
    assert thorough.state == "missing" and "libcudart.so.12" in thorough.found


def test_nothing_is_started_without_a_gpu_and_a_kernel_is_run_where_one_is_reported(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "polygen_stream.doctor.machine.run_probe", lambda source: asked.append(source) or run_probe("1")
    )
    [none] = examine_gpus([])
    assert (none.state, none.found, asked) == ("missing", "none found", [])
    gpu, *kernels = examine_gpus([("NVIDIA A10", "23028", "8.6")])
    assert gpu.found == "NVIDIA A10, 23028 MiB, compute capability 8.6"
    assert "torch on GPU" in [finding.item for finding in kernels] and KERNELS["torch"] in asked


def test_torchs_kernel_fails_where_no_gpu_is_seen():
    code = f"import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''\n{KERNELS['torch']}"
    answer = run_probe(code)
    assert answer.state == "broken" and "sees no GPU" in answer.text


@pytest.mark.gpu
def test_every_installed_package_computes_on_the_gpu():
    findings = examine_gpus(installed_gpus())
    assert findings[0].item == "GPU 0"
    assert {finding.state for finding in findings} == {"ok"}, findings


FINDINGS = [
    Finding("machine", "disk", "ok", "64 GiB free in /a/folder/with/a/rather/long/path/that/needs/a/second/line"),
    Finding("packages", "torch", "ok", "2.15.0"),
    Finding("packages", "ray", "missing", "not installed", "producers on further nodes", "pip install -e '.[ray]'"),
    Finding(
        "recipes", "sana", "missing", "license [unconfirmed]; weights not here", "download the weights",
        "hf download Efficient-Large-Model/Sana_1600M_512px_diffusers --revision b840f5933dcbbd3a0b41b7c88c4e4ea0b99",
    ),
]  # fmt: skip


@pytest.mark.parametrize("terminal", [True, False])
def test_the_report_has_80_columns_and_commands_that_can_be_pasted(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)
    show(FINDINGS, console)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "license [unconfirmed]" in text and "\n    pip install -e '.[ray]'\n" in text
    pasted = text[text.index("    hf download") :].replace("\\\n", "")  # as a shell joins continued lines
    assert shlex.split(pasted) == shlex.split(FINDINGS[-1].command)


def test_json_has_every_finding():
    assert [entry["item"] for entry in json.loads(to_json(FINDINGS))] == ["disk", "torch", "ray", "sana"]


def test_every_recipe_is_listed_with_its_terms_and_the_way_to_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    listed = {finding.item: finding for finding in examine_recipes()}
    assert listed["micro/sd15"].state == "ok"
    assert listed["sdxl_turbo"].found == "license sai-nc-community, NON-COMMERCIAL; weights not here"
    assert listed["sdxl_turbo"].command.startswith("hf download stabilityai/sdxl-turbo --revision 71153311")
    assert ", gated; " in listed["sd35_medium"].found
    assert "huggingface.co/stabilityai/stable-diffusion-3.5-medium" in listed["sd35_medium"].advice
    assert [name for name, finding in listed.items() if "NON-COMMERCIAL" in finding.found] == ["sdxl_turbo"]


@pytest.mark.slow
def test_doctor_examines_this_machine(tmp_path):
    done = doctor("--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    findings = {entry["item"]: entry for entry in json.loads(done.stdout)}
    for item in ("shared-memory ring", "torch", "torchvision", "open_clip", "diffusers", "transformers", "torchdata"):
        assert findings[item]["state"] == "ok", findings[item]
    assert all(
        entry["command"] for entry in findings.values() if entry["state"] == "missing" and entry["part"] == "packages"
    )


@pytest.mark.slow
def test_every_installed_package_imports():
    assert [each for each in examine_packages(gpu=False, imports=True) if "import:" in each.found] == []
