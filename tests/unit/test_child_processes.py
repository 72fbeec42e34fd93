"""What the package does with Python itself: how it starts it, and what `python -O` may leave out."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from polygen_stream.base import python

PACKAGE = Path(__file__).resolve().parents[2] / "polygen_stream"
# Calls that only look. Any other may do something, which `python -O` leaves out together with the assertion.
LOOKS = {"len", "isinstance", "all", "any", "bool", "keys", "getpid"}

RING = """
import numpy as np
from polygen_stream.ring import DrawRequest, Kind, Member, Ring, RingSpec

if __debug__:
    raise SystemExit("this is not python -O")
spec = RingSpec(slots=16, image_shape=(4, 4, 3), groups=8, members=2, caption_bytes=32, generators=("one",), seed=0)
ring = Ring.create(spec)
ring.register("trainer", "trainer")
for task in range(4):
    ring.open_group(task, Kind.PLAIN, f"caption {task}", None, [Member(0, 0, 1)], timeout_s=1)
while claims := ring.claim([0], 2):
    ring.commit(claims, np.full((len(claims), 4, 4, 3), 7, np.uint8))
draw = ring.draw(DrawRequest(step=0, plain=2, pair=0), timeout_s=1)
print(ring.stats().groups_completed, len(draw.groups), ring.check())
ring.close()
"""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_no_assertion_does_anything():
    found = [
        f"{file}:{node.lineno}: {called(call)}()"
        for file, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
        for call in ast.walk(node.test)
        if isinstance(call, ast.Call) and called(call) not in LOOKS
    ]
    assert not found


def test_python_is_started_in_one_place():
    """Where its search path does not begin with the current folder."""
    found = []
    for file, tree in trees():
        starters = {
            id(word)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and called(node) == "python_command"
            for word in node.args
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in ("-m", "-c") and id(node) not in starters:
                found.append(f"{file}:{node.lineno}: {node.value}")
            if (
                file.name != "python.py"
                and isinstance(node, ast.List | ast.Tuple)
                and node.elts
                and ast.unparse(node.elts[0]) == "sys.executable"
            ):
                isolated = len(node.elts) > 1 and getattr(node.elts[1], "value", None) == "-I"
                if not isolated:
                    found.append(f"{file}:{node.lineno}: {ast.unparse(node)[:60]}")
    assert not found


def test_a_ring_works_without_assertions():
    done = subprocess.run([sys.executable, "-O", "-c", RING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "4 2 []\n", done.stderr


@pytest.mark.parametrize("words", [["version"], ["config", "train.lr"]])
def test_a_file_called_random_hides_no_module(tmp_path, words):
    for name in ("random", "queue", "token", "typing_extensions"):
        (tmp_path / f"{name}.py").write_text("def roll():\n    return 4\n")
    command = [sys.executable, "-m", "polygen_stream", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_only_in_the_current_folder_is_found_by_child_processes(monkeypatch):
    """As a checkout that nobody installed."""
    root = str(PACKAGE.parent)
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    for path, then, children in (
        ([root, "/lib"], ["/lib", root], f"/before{os.pathsep}{root}"),
        (["/work", "/lib", root], ["/lib", root], "/before"),
    ):
        monkeypatch.setenv("PYTHONPATH", "/before")
        monkeypatch.setattr(python, "sys", SimpleNamespace(flags=SimpleNamespace(safe_path=False), path=path))
        python.make_path_safe()
        assert path == then and os.environ["PYTHONPATH"] == children and os.environ["PYTHONSAFEPATH"] == "1"
