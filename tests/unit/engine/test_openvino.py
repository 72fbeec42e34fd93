"""OpenVINO's sessions in a process that handles signals."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

OPENS_AND_FREES = """
import faulthandler, signal, subprocess, sys
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops

from polygen_stream.engine.backends.openvino import OpenVinoSession
from polygen_stream.engine.profile import Profile

faulthandler.enable()  # gives this thread an alternate signal stack, which Python's handlers run on
handled = []
signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
x = ops.parameter([-1, 4], np.float32)
x.output(0).set_names({"x"})
y = ops.add(x, ops.constant(np.ones(4, np.float32)))
y.output(0).set_names({"y"})
file = Path(sys.argv[1]) / "add.xml"
ov.save_model(ov.Model([y], [x], "add"), file)
sessions = [OpenVinoSession(file, Profile((1, 1, 1), {"x": (4,)}, {"x": "float32"}), 1) for _ in range(3)]
for session in sessions:
    assert session.run({"x": torch.ones(1, 4)})["y"].tolist() == [[2.0] * 4]
del session
while sessions:
    del sessions[0]  # the first is freed first
    signal.raise_signal(signal.SIGUSR1)
assert handled == [signal.SIGUSR1] * 3
"""


def test_a_process_that_freed_sessions_handles_signals(tmp_path):
    """On a processor with AMX it died when each session had a core of its own; elsewhere it never did."""
    pytest.importorskip("openvino")
    done = subprocess.run(
        [sys.executable, "-c", OPENS_AND_FREES, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{signal.Signals(-done.returncode).name if done.returncode < 0 else done.stderr}"
