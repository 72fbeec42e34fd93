"""Real builds that are killed, and real builds that meet: the cache holds a whole engine or none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.engine.cache import EngineCache

pytest.importorskip("onnxruntime")

SMALL = """
import os, signal, sys
from pathlib import Path
import torch
from polygen_stream.engine.build import build
from polygen_stream.engine.cache import EngineCache
from polygen_stream.generators.recipe import load_recipe

torch.set_num_threads(1)
recipe = load_recipe("micro/sd15")
engine = recipe.engine.model_copy(update={"parts": ("text_encoder",)})
recipe = recipe.model_copy(update={"engine": engine})
cache = EngineCache(Path(sys.argv[1]))
"""

KILLED_IN_EVERY_STAGE = (
    SMALL
    + """
stages = []
while True:
    died_in = None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        seen = []
        def say(line):
            seen.append(line)
            if len(seen) > len(stages):
                os.write(write, line.encode())
                os.kill(os.getpid(), signal.SIGKILL)
        build(recipe, "onnxruntime", cache, say=say)
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        died_in = pipe.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    stages.append(died_in)
    assert cache.entries() == [], died_in
(entry,) = cache.entries()
entry.verify()
left = {path.name for path in (cache.root / "staging").iterdir()}
removed = cache.collect({entry.key.digest})
assert {path.name for path in removed} == left and left
assert list((cache.root / "staging").iterdir()) == []
entry.verify()
print(*stages, sep="\\n")
"""
)


def test_a_build_killed_in_any_stage_leaves_no_engine_and_the_next_one_succeeds(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_IN_EVERY_STAGE, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    stages = ["load", "eager", "export text_encoder", "compile text_encoder", "parity"]
    assert done.stdout.splitlines() == stages


BUILD = (
    SMALL
    + """
print("ready", flush=True)
sys.stdin.readline()
build(recipe, "onnxruntime", cache, random_weights=True, say=lambda line: print(line, flush=True))
"""
)


def test_two_builds_at_once_compile_once(tmp_path: Path):
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for build in both:
        assert build.stdout.readline() == "ready\n"
    for build in both:
        build.stdin.write("go\n")
        build.stdin.flush()
    said = [build.communicate()[0] for build in both]
    assert [build.returncode for build in both] == [0, 0]
    assert sum("compile text_encoder" in lines for lines in said) == 1
    assert sum("found in the cache" in lines for lines in said) == 1
    (entry,) = EngineCache(tmp_path).entries()
    entry.verify()
