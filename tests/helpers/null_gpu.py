"""The null GPU: CUDA devices that compute nothing, for programs that run torch's CUDA build on a machine without a GPU.

`run` starts a program of tests/null_gpu/programs on them; there, `Counters` says what it did with the devices, and
`HostWaits` where it waited for them.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError

TESTS = Path(__file__).resolve().parents[1]
SOURCES = TESTS / "null_gpu" / "device"
PROGRAMS = TESTS / "null_gpu" / "programs"
GIB = 2**30

# As in tests/null_gpu/device/counters.h.
NAMES = (
    "kernels",
    "waits",
    "copies_in",
    "bytes_in",
    "pageable_copies_in",
    "pageable_bytes_in",
    "copies_out",
    "bytes_out",
    "allocated",
    "peak",
    "collectives",
)

# What the libraries say about themselves needs no device: they are asked.
LEFT_TO_THEM = {
    "cublasLtGetVersion",
    "cudaGetErrorName",
    "cudaGetErrorString",
    "cudnnGetCudartVersion",
    "cudnnGetErrorString",
    "cudnnGetLastErrorString",
    "cudnnGetProperty",
    "cudnnGetVersion",
}
CUDA_NOT_SUPPORTED, CUDNN_NOT_SUPPORTED = 801, 3000


def library() -> Path:
    """Compile the null GPU for this interpreter's torch, where that was not done before.

    Raises:
        UserError: torch is not a CUDA build, or there is no g++.
    """
    torch = Path(importlib.util.find_spec("torch").origin).parent
    binaries = sorted({*torch.glob("lib/libc10_cuda.so"), *torch.glob("lib/libtorch*.so")})
    headers = sorted(torch.parent.glob("nvidia/*/include/cuda_runtime_api.h"))
    if not headers or not any(path.name == "libtorch_cuda.so" for path in binaries):
        raise UserError(
            f"the torch of {sys.executable} is built without CUDA: `make gpu-rehearsal` makes .venv-cuda, which has "
            "the build with CUDA from PyPI"
        )
    key = hashlib.sha256((torch / "version.py").read_bytes() + Path(__file__).read_bytes())
    for source in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        key.update(source.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polygen-stream" / "null-gpu"
    built = cache / key.hexdigest()[:16] / "libnullgpu.so"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        _compile(built, binaries, headers[0].parent)
    return built


def _compile(target: Path, binaries: list[Path], headers: Path) -> None:
    objects = []
    for source in ("runtime.cpp", "libraries.cpp"):
        objects.append(target.with_name(f"{source}.{os.getpid()}.o"))
        _command(
            *("g++", "-std=c++17", "-O1", "-fPIC", "-Wall", "-c", "-I", SOURCES, "-isystem", headers),
            *("-o", objects[-1], SOURCES / source),
        )
    written = _symbols("--defined-only", objects)
    wanted = {name.partition("@")[0] for name in _symbols("-D", "--undefined-only", binaries)}
    stubs = target.with_suffix(f".{os.getpid()}.c")
    stubs.write_text("".join(map(_stub, sorted(wanted - written - LEFT_TO_THEM))), encoding="ascii")
    _command("g++", "-shared", "-fPIC", "-o", target.with_name("libcuda.so.1"), SOURCES / "driver.cpp")
    partial = target.with_suffix(f".{os.getpid()}.so")
    _command("g++", "-shared", "-fPIC", "-o", partial, *objects, "-x", "c", stubs)
    partial.rename(target)
    for path in (*objects, stubs):
        path.unlink()


def tensorrt_libraries(bindings: Path) -> Path:
    """Compile TensorRT's libraries that do nothing, under the names that its Python bindings load.

    Args:
        bindings: Extension module of the package tensorrt_bindings.

    Returns:
        Their folder, which `environment` has programs look into.
    """
    built = library().with_name("libnulltensorrt.so")
    if not built.exists():
        partial = built.with_suffix(f".{os.getpid()}.so")
        source = SOURCES / "tensorrt.cpp"
        _command("g++", "-std=c++17", "-O1", "-fPIC", "-Wall", "-shared", "-o", partial, source)
        partial.rename(built)
    for line in _command("objdump", "-p", bindings).splitlines():
        kind, _, name = line.strip().partition(" ")
        if kind == "NEEDED" and name.strip().startswith("libnv"):
            (built.parent / name.strip()).unlink(missing_ok=True)
            (built.parent / name.strip()).symlink_to(built.name)
    return built.parent


def _stub(name: str) -> str:
    """Return a function in C for what is not written: of the runtime it fails; a computation is said to be done."""
    if name.startswith(("cuda", "__cuda")):
        return f"int {name}(void) {{ return {CUDA_NOT_SUPPORTED}; }}\n"
    if name.startswith("cudnnGet"):
        return f"int {name}(void) {{ return {CUDNN_NOT_SUPPORTED}; }}\n"
    return f"int {name}(void) {{ return 0; }}\n" if name.startswith(("cublas", "cudnn", "nccl")) else ""


def _symbols(*arguments: str | list[Path]) -> set[str]:
    *options, files = arguments
    return {line.split()[-1] for line in _command("nm", *options, *files).splitlines() if line.strip()}


def _command(*words: str | Path) -> str:
    try:
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"the null GPU is compiled with g++ and binutils: there is no {words[0]} here") from None
    if done.returncode:
        raise UserError(f"compiling the null GPU failed: {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def environment(count: int = 8, gib: float = 80, capability: int = 80, **more: str) -> dict[str, str]:
    """Return this process's environment with null GPUs in it.

    Args:
        count: Number of devices.
        gib: Memory of each.
        capability: 80 for an A100, 90 for an H100.
        more: Further variables.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    paths = (TESTS.parent, TESTS / "helpers", os.environ.get("PYTHONPATH"))
    built = library()
    return inherited | {
        "LD_PRELOAD": str(built),
        "LD_LIBRARY_PATH": f"{built.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":"),
        "NULL_GPU_COUNT": str(count),
        "NULL_GPU_GIB": str(gib),
        "NULL_GPU_CAPABILITY": str(capability),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{SOURCES}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(str(path) for path in paths if path),
        **more,
    }


def run(program: str, *arguments: object, timeout_s: float = 240, **device: object) -> Any:
    """Run a program on null GPUs and return the figures that it prints last, a line of JSON.

    Args:
        program: Name of a file in tests/null_gpu/programs.
        arguments: Its arguments.
        timeout_s: It may take as long.
        device: Arguments of `environment`.

    Raises:
        AssertionError: It failed; with the end of its output.
    """
    return _figures(_start(program, arguments, environment(**device)), timeout_s)


def run_ranks(program: str, ranks: int, *arguments: object, timeout_s: float = 240, **device: object) -> list[dict]:
    """Run a program once per rank, each with the environment variables of torchrun; see `run`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    started = []
    try:
        for rank in range(ranks):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks)}
            started.append(_start(program, arguments, environment(**device, **shared, **own)))
        return [_figures(process, timeout_s) for process in started]
    finally:
        for process in started:
            process.kill()


def _start(program: str, arguments: Sequence[object], environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAMS / f"{program}.py"), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _figures(process: subprocess.Popen[str], timeout_s: float) -> Any:
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    assert process.returncode == 0, (
        f"{process.args} ended with {process.returncode}:\n{stdout[-2000:]}\n{stderr[-6000:]}"
    )
    return json.loads(stdout.splitlines()[-1])


class _Raw(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in NAMES)


def read_counters(file: Path) -> dict[str, int]:
    """Return the counters of a process from the file that NULL_GPU_COUNTERS had it write."""
    raw = _Raw.from_buffer_copy(file.read_bytes())
    return {name: getattr(raw, name) for name in NAMES}


class Counters:
    """What this process does with the null GPUs, from now on: one attribute per counter."""

    def __init__(self) -> None:
        get = ctypes.CDLL(None).null_gpu_counters
        get.restype = ctypes.POINTER(_Raw)
        self._raw = get().contents
        self._before = {name: getattr(self._raw, name) for name in NAMES}

    def __getattr__(self, name: str) -> int:
        if name not in NAMES:
            raise AttributeError(name)
        return getattr(self._raw, name) - self._before[name]


class HostWaits:
    """The calls in which the host waits for a null GPU while this context is open, by the code that makes them.

    Attributes:
        calls: How often, by "file:line function" of the innermost frames of polygen_stream, diffusers or transformers.
    """

    OURS = ("/polygen_stream/", "/diffusers/", "/transformers/", "/open_clip/")

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._library = ctypes.CDLL(None)
        self._none = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
        self._call = self._none(self._record)

    def _record(self, _call: bytes) -> None:
        ours = []
        for frame, line in traceback.walk_stack(sys._getframe()):
            code = frame.f_code
            if any(part in code.co_filename for part in self.OURS):
                ours.append(f"{'/'.join(Path(code.co_filename).parts[-2:])}:{line} {code.co_name}")
        self.calls[" < ".join(ours[:2]) or "elsewhere"] += 1

    def __enter__(self) -> HostWaits:
        self._library.null_gpu_on_wait(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        self._library.null_gpu_on_wait(ctypes.cast(None, self._none))
