"""A run of latency stubs, from the command line:  python latency_stub_run.py RUN_DIR LATENCY_JSON [--a.b VALUE ...]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from polygen_stream.bench.latency_stubs.roles import Latency, latency_stub_plan
from polygen_stream.config import load_config
from polygen_stream.launch.supervise import supervise

if __name__ == "__main__":
    config, latency = load_config(None, sys.argv[3:]), Latency(**json.loads(sys.argv[2]))
    sys.exit(supervise(config, Path(sys.argv[1]), latency_stub_plan(config, latency), fill=latency.write))
