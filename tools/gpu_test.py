"""`make gpu-test`: everything that needs a GPU, in stages of at most eight minutes each.

    python tools/gpu_test.py [STAGE ...] [--out FOLDER] [--wheels FOLDER] [-- PYTEST ARGUMENTS]

Each stage prints a table of what was planned and measured, and writes gpu-test-STAGE.json, which `polygen-stream plan
--rates` reads. With --wheels the packages that tools/gpu_test_bundle.sh collected are unpacked there first: torch and
pip are all that is needed then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 480  # of a stage: no test begins afterwards
TEST_LIMIT_S = 240  # of a test that names no limit of its own
RUNS = "tests/gpu/test_runs.py::test_"


@dataclass(frozen=True)
class Stage:
    """What a stage is about, and its tests in the order in which they run: files, or tests in them."""

    title: str
    tests: tuple[str, ...]


STAGES = {
    "1": Stage(
        "eager generators, trainer, staging, runs of the micro preset",
        (
            "tests/gpu/test_context.py",
            "tests/gpu/test_staging.py",
            "tests/gpu/test_training_step.py::test_a_step_of_single_gpu_takes_what_is_planned",
            "tests/gpu/test_eager_generators.py",
            "tests/integration/test_trainer_ranks.py",
            "tests/integration/test_time_slices_run.py",
            "tests/unit/generators/test_attention.py",
            "tests/unit/doctor/test_doctor.py",
            f"{RUNS}the_micro_preset_trains_to_its_end",
        ),
    ),
    "2": Stage(
        "ViT-B-16 at the batch of configs/paper.toml",
        (
            "tests/gpu/test_training_step.py::test_a_step_of_paper_takes_what_is_planned",
            "tests/gpu/test_bench_trainer.py",
        ),
    ),
    "3": Stage(
        "TensorRT and TensorRT-RTX",
        ("tests/gpu/test_tensorrt.py", f"{RUNS}the_micro_preset_trains_on_compiled_engines"),
    ),
    "4": Stage(
        "captions by vLLM",
        (f"{RUNS}a_captioner_under_vllm_writes_what_its_validators_accept", "tests/gpu/test_bench_captions.py"),
    ),
}


def unpack(wheels: Path, target: Path) -> None:
    """Install every wheel of a folder into `target`, from nowhere else."""
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        sys.exit(f"error: {wheels} has no wheels: tools/gpu_test_bundle.sh STAGE {wheels} collects them")
    words = ("--quiet", "--no-index", "--no-deps", "--upgrade", "--target", str(target))
    subprocess.run([sys.executable, "-m", "pip", "install", *words, *found], check=True)


def run_stage(name: str, out: Path, wheels: Path | None, more: list[str]) -> int:
    """Run a stage, and return pytest's exit code."""
    stage = STAGES[name]
    print(f"\n=== stage {name}: {stage.title}", flush=True)
    paths = [str(ROOT), str(ROOT / "tests" / "helpers")]
    if wheels:
        target = ROOT / "build" / f"gpu-test-{name}"
        unpack(wheels, target)
        paths.append(str(target))
    inherited = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, *([inherited] if inherited else [])])}
    subprocess.run([sys.executable, "-m", "polygen_stream", "doctor"], cwd=ROOT, env=environment)
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider"]
    words += [f"--session-timeout={LIMIT_S}", f"--timeout={TEST_LIMIT_S}"]
    words += ["--stage", name, "--stage-json", str(out / f"gpu-test-{name}.json"), *stage.tests, *more]
    return subprocess.run(words, cwd=ROOT, env=environment).returncode


def main() -> int:
    """Run the stages that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the JSON")
    parser.add_argument("--wheels", type=Path, help="what tools/gpu_test_bundle.sh collected for one stage")
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    asked, more = parser.parse_args(words[:cut]), words[cut + 1 :]
    names = asked.stages or list(STAGES)
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"STAGE {unknown[0]} is none of {', '.join(STAGES)}")
    if asked.wheels and len(names) > 1:
        parser.error("--wheels holds those of one stage: name it")
    if not asked.out.is_dir():
        parser.error(f"--out {asked.out} is no folder")
    codes = {name: run_stage(name, asked.out.resolve(), asked.wheels, more) for name in names}
    for name, code in codes.items():
        print(f"stage {name}: {'passed' if code == 0 else f'pytest ended with {code}'} ({STAGES[name].title})")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
