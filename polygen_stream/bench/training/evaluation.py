"""`polygen-stream bench evaluation`: a training step while the evaluator works beside a step while it does not.

The evaluator is a process of its own that scores a checkpoint over and over; SIGSTOP and SIGCONT switch it between two
steps, so that a pair is two steps in a row. Pairs that have it at work in neither step show what the machine does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.python import python_command
from polygen_stream.bench.parent_death import die_with_parent
from polygen_stream.bench.training.trainer import OURS, WARM_UP, Loop, median_ratio, our_loop, trainer_config
from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.config import EvaluateConfig, load_config
from polygen_stream.evaluate.run import Evaluation, evaluate
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.roles.role import yield_cores

MODULE = "polygen_stream.bench.training.evaluation"
CHECKPOINT_LIMIT_S = 60.0
AT_WORK = "evaluator / none"
CONTROLS = ("none / none", "none / none again")


def bench_evaluation(batch: int, pairs: int, threads: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Median of the paired ratios of each kind of pair, with its 95 % bootstrap interval.

    evaluator_share: of a core, what the evaluator had of the steps beside which it was at work.

    Args:
        batch: Images, and captions, of a step.
        pairs: Measured pairs of steps of each kind.
        threads: Compute threads of the trainer; the evaluator has one.
        say: Called with a line of progress.

    Raises:
        PolygenError: the measurement failed.
    """
    say(f"{6 * (WARM_UP + pairs)} steps of the micro model, {batch} images each")
    words = python_command("-m", MODULE, str(os.getpid()), "trainer", str(batch), str(pairs), str(threads))
    done = subprocess.run(words, stdout=subprocess.PIPE, env=_environment("trainer", threads), text=True)
    if done.returncode:
        raise PolygenError(f"the measurement ended with exit code {done.returncode}, see above")
    return json.loads(done.stdout.splitlines()[-1])


def measure(batch: int, pairs: int, threads: int) -> dict[str, Any]:
    """What bench_evaluation returns, in the process of the trainer."""
    torch.set_num_threads(threads)
    kinds = (AT_WORK, *CONTROLS)
    rounds = WARM_UP + pairs
    config = trainer_config("micro", batch, 2 * len(kinds) * rounds, "cpu")
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    used = 0.0
    with TemporaryDirectory() as folder:
        loop = Loop(OURS, lambda turn: our_loop(config, Path(folder), turn), plain_attention=True)
        loop.start()
        untrained = _first_checkpoint(Path(folder))
        with _evaluator(untrained) as evaluator:
            for number in range(rounds):
                for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                    had = _cpu_seconds(evaluator)
                    # Which of the two comes first changes from pair to pair.
                    first = _step(loop, evaluator if kind == AT_WORK and number % 2 else None)
                    second = _step(loop, evaluator if kind == AT_WORK and not number % 2 else None)
                    used += _cpu_seconds(evaluator) - had if number >= WARM_UP else 0.0
                    seconds[kind].append((first, second) if number % 2 else (second, first))
                if (number + 1) % 50 == 0:
                    print(f"{number + 1} of {rounds} rounds", file=sys.stderr, flush=True)
        loop.finish()
    measured = {kind: np.array(of_kind[WARM_UP:]) for kind, of_kind in seconds.items()}
    return {
        "batch": batch,
        "pairs": pairs,
        "threads": threads,
        "evaluator_share": used / float(measured[AT_WORK][:, 0].sum()),
        "step_ms": {kind: (1e3 * np.median(both, axis=0)).tolist() for kind, both in measured.items()},
        "ratio": {kind: median_ratio(both[:, 0], both[:, 1]) for kind, both in measured.items()},
    }


def _first_checkpoint(run_dir: Path) -> Path:
    """The trainer writes it beside its first steps."""
    deadline = time.monotonic() + CHECKPOINT_LIMIT_S
    while time.monotonic() < deadline:
        for _, folder in list_checkpoints(run_dir):
            return folder
        time.sleep(0.05)
    raise PolygenError(f"the trainer wrote no checkpoint within {CHECKPOINT_LIMIT_S:.0f} s")


def _step(loop: Loop, evaluator: psutil.Popen | None) -> float:
    if evaluator is None:
        return loop.step()
    evaluator.send_signal(signal.SIGCONT)
    try:
        return loop.step()
    finally:
        evaluator.send_signal(signal.SIGSTOP)


def _cpu_seconds(process: psutil.Popen) -> float:
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def _evaluator(checkpoint: Path) -> Iterator[psutil.Popen]:
    """A process that evaluates a checkpoint for ever, stopped as soon as it has begun."""
    words = python_command("-m", MODULE, str(os.getpid()), "evaluator", str(checkpoint))
    # As the supervisor starts its roles: in a session of its own.
    process = psutil.Popen(
        words, stdout=subprocess.PIPE, env=_environment("evaluator", 1), start_new_session=True, text=True
    )
    try:
        if process.stdout.readline() != "started\n":
            raise PolygenError("the evaluator did not start, see above")
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _environment(role: str, threads: int) -> dict[str, str]:
    """That of a role in a run: allocator and threads make a difference."""
    config = load_config(None, {f"launch.{role}_threads": str(threads)})
    return os.environ | build_process_plan(config).with_role(role)[0].env


def evaluate_for_ever(checkpoint: Path) -> None:
    """What the evaluator role does with a checkpoint, again and again."""
    torch.set_num_threads(1)
    evaluation = Evaluation.of(EvaluateConfig(), "micro")
    yield_cores()  # now: on a busy machine it would never come so far
    print("started", flush=True)
    for _ in count():
        evaluate(checkpoint, evaluation, "cpu")


if __name__ == "__main__":
    parent, role, *arguments = sys.argv[1:]
    die_with_parent(int(parent))  # a stopped process would stay for ever
    if role == "evaluator":
        evaluate_for_ever(Path(arguments[0]))
    else:
        print(json.dumps(measure(*map(int, arguments))))
