"""Dependencies point one way, and what the command line imports stays light.

Edges are read from the source: every import statement of a module counts for the direction rule, wherever it stands;
only those that run on import count for the weight rule.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "polygen_stream"
NAME = PACKAGE.name

# What a part may import of the package, besides itself. A part is a subpackage or a top-level module.
BASE = {"base"}
ALLOWED = {
    "__init__": set(),
    "__main__": {"cli"},
    "base": set(),
    "schedule": BASE,
    "ring": BASE,
    "assets": BASE,
    "micro": BASE | {"assets"},
    "config": BASE | {"assets", "schedule"},
    "checkpoints": BASE | {"assets", "config"},
    "roles": BASE | {"config", "ring"},
    "generators": BASE | {"assets"},
    "engine": BASE | {"assets", "generators"},
    "captions": BASE | {"assets", "config", "micro", "schedule"},
    "fetch": BASE | {"assets", "config", "engine", "generators"},
    "export": BASE | {"captions", "config", "engine", "generators", "ring", "roles"},
    "producers": BASE | {"captions", "config", "engine", "export", "generators", "ring", "roles", "schedule"},
    "train": BASE | {"assets", "checkpoints", "config", "ring", "roles", "schedule"},
    "launch": BASE | {"checkpoints", "config", "ring", "roles"},
    "doctor": BASE | {"assets", "config", "generators", "launch", "ring"},
    "capacity": BASE | {"assets", "config", "engine", "fetch", "generators", "launch", "ring"},
    "simulate": BASE | {"capacity", "captions", "config", "launch", "producers", "ring", "roles", "schedule"},
    "evaluate": BASE | {"config", "micro", "roles", "train"},
    "analyze": BASE
    | {"assets", "captions", "config", "engine", "evaluate", "generators", "micro", "ring", "train"},
    "report": BASE | {"analyze", "assets", "captions", "config", "evaluate", "micro", "ring", "roles", "train"},
    "audit": BASE | {"analyze", "assets", "captions", "config", "engine", "generators", "micro", "report"},
    "experiment": BASE
    | {
        "analyze", "assets", "captions", "config", "engine", "evaluate", "generators", "micro", "ring", "schedule",
        "train",
    },
    "bench": BASE
    | {
        "assets", "captions", "checkpoints", "config", "engine", "evaluate", "experiment", "export", "generators",
        "launch", "micro", "producers", "ring", "roles", "schedule", "train",
    },
    "cli": BASE
    | {
        "analyze", "audit", "bench", "capacity", "captions", "config", "doctor", "engine", "evaluate", "experiment",
        "export", "fetch", "launch", "report", "ring", "simulate",
    },
}  # fmt: skip

HEAVY = {"torch", "torchvision", "open_clip", "diffusers", "transformers", "vllm", "tensorrt", "tensorrt_rtx"}
LIGHT = [
    "assets", "base", "capacity", "checkpoints", "cli", "config", "doctor", "fetch", "launch", "ring", "roles",
    "schedule",
]  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str, top_only: bool) -> frozenset[str]:
    """Full names a module imports. top_only: those that run on import (not in functions, not for type checkers)."""
    found: set[str] = set()
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST) -> None:
        if top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in [] if top_only else node.body:
                visit(child)
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            # "from package import submodule" imports the submodule
            found.update(f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names)
            found.add(base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return frozenset(found)


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def loaded_by(module: str) -> dict[str, tuple[str, ...]]:
    """{everything that importing `module` imports, by name: the chain of modules that leads to it}."""
    chains: dict[str, tuple[str, ...]] = {}
    stack = [(module, (module,))]
    while stack:
        name, path = stack.pop()
        if name in chains:
            continue
        chains[name] = path
        if name in MODULES:
            # Importing a.b.c runs a and a.b as well.
            parents = [name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)]
            stack += [(other, (*path, other)) for other in (*imports(name, top_only=True), *parents)]
    return chains


def test_every_part_has_a_rule():
    assert {part_of(module) for module in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_dependencies_point_one_way(module):
    part = part_of(module)
    used = {part_of(name) for name in imports(module, top_only=False) if name.split(".")[0] == NAME}
    back = used - ALLOWED[part] - {part, "__init__"}
    assert not back, f"{module} imports {sorted(back)}, but {part} may import only {sorted(ALLOWED[part])}"


def test_the_rules_have_no_cycle():
    # "Once the earlier ones are taken away, something stands alone" until nothing is left.
    rest = {part: set(allowed) - {part} for part, allowed in ALLOWED.items()}
    while rest:
        free = {part for part, allowed in rest.items() if not allowed & rest.keys()}
        assert free, f"these import each other in a circle: {sorted(rest)}"
        rest = {part: allowed for part, allowed in rest.items() if part not in free}


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) in LIGHT])
def test_light_modules_load_no_heavy_library(module):
    chains = loaded_by(module)
    heavy = [" -> ".join(path) for name, path in chains.items() if name.split(".")[0] in HEAVY]
    assert not heavy, heavy[0]


def test_the_ring_needs_numpy_only():
    # Roles under other interpreters attach to it. Only who reads a snapshot file needs safetensors too.
    reader = f"{NAME}.ring.snapshot_file"
    attaching = {name for name in loaded_by(f"{NAME}.ring") if name in MODULES}
    assert reader not in attaching
    for module in (m for m in MODULES if part_of(m) == "ring"):
        used = {name.split(".")[0] for name in imports(module, top_only=False)} - set(sys.stdlib_module_names)
        assert used <= {"numpy", NAME} | ({"safetensors"} if module == reader else set()), module


def test_the_trainer_never_sees_the_painter():
    # The painter is the micro world's reality: evaluation uses it, training must not.
    for module in (m for m in MODULES if part_of(m) == "train"):
        every = set(loaded_by(module)) | imports(module, top_only=False)
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
    used = {name.split(".")[0] for m in MODULES for name in imports(m, top_only=False)}
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
            waiting += [name for name in imports(module, top_only=False) if name in MODULES]
    used = {name.split(".")[0] for module in reached for name in imports(module, top_only=False)}
    assert used - set(sys.stdlib_module_names) - {NAME} <= listed | of_vllm


def test_importing_the_command_line_loads_no_torch():
    code = (
        "import sys, polygen_stream.cli, polygen_stream.launch.supervise, polygen_stream.doctor.doctor; "
        f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
