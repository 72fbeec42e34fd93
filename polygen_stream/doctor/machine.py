"""The machine itself: processor, memory, disk, the robust mutex that the ring rests on, and GPUs."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.nvidia_smi import NoNvidiaSmi, query_gpus
from polygen_stream.doctor.finding import Finding
from polygen_stream.doctor.probes import KERNELS, is_installed, run_probe
from polygen_stream.ring.layout import MUTEX_BYTES
from polygen_stream.ring.lock import Acquired, RobustMutex, libc_id
from polygen_stream.ring.memory import available_bytes

GIB = 2**30
MIN_DISK_BYTES = 5 * GIB


def examine_machine() -> list[Finding]:
    """Return findings on the interpreter, processor, memory, shared memory, disk and the ring's mutex."""
    cores = len(os.sched_getaffinity(0))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available, source = available_bytes()
    memory = f"{available / GIB:.1f} of {total / GIB:.1f} GiB available ({source})"
    return [
        Finding("machine", "Python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Finding("machine", "CPU cores", "ok", f"{cores} of {os.cpu_count()} usable ({platform.machine()})"),
        Finding("machine", "memory", "ok", memory),
        _shared_memory(),
        _disk(),
        _mutex(),
    ]


def installed_gpus() -> list[tuple[str, ...]]:
    """Return (name, memory in MiB, compute capability) of every NVIDIA GPU; [] without a driver that works."""
    try:
        return query_gpus("name", "memory.total", "compute_cap")
    except NoNvidiaSmi:
        return []


def examine_gpus(gpus: Sequence[Sequence[str]]) -> list[Finding]:
    """Return a finding per GPU, and one per installed package that computes on GPUs: each runs a kernel.

    Without a GPU no package is started.

    Args:
        gpus: (name, memory in MiB, compute capability) of each, as `installed_gpus` returns them.
    """
    if not gpus:
        return [Finding("machine", "NVIDIA GPU", "missing", "none found", "full-size generators need one")]
    findings = [
        Finding("machine", f"GPU {index}", "ok", f"{name}, {memory} MiB, compute capability {capability}")
        for index, (name, memory, capability) in enumerate(gpus)
    ]
    for package in KERNELS:
        if is_installed(package):
            findings.append(_kernel(package))
    return findings


def _kernel(package: str) -> Finding:
    answer = run_probe(KERNELS[package])
    if answer.state == "works":
        return Finding("machine", f"{package} on GPU", "ok", answer.text)
    advice = "install a build for this driver and these GPUs" if answer.state == "broken" else "run doctor again"
    return Finding("machine", f"{package} on GPU", "problem", answer.text, advice)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / GIB:.0f} GiB free in {Path.cwd()}"
    if free < MIN_DISK_BYTES:
        return Finding("machine", "disk", "problem", found, "checkpoints need room: free some, or use another disk")
    return Finding("machine", "disk", "ok", found)


def _shared_memory() -> Finding:
    # The ring does not use it, but NCCL and vLLM do, and containers often get 64 MiB of it.
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("machine", "/dev/shm", "missing", "absent", "NCCL and vLLM need it: mount a tmpfs there")
    size = shutil.disk_usage(folder)
    found = f"{size.free / GIB:.1f} of {size.total / GIB:.1f} GiB free"
    if size.free < GIB:
        advice = "NCCL and vLLM need 1 GiB or more: start the container with --shm-size=8g"
        return Finding("machine", "/dev/shm", "missing", found, advice)
    return Finding("machine", "/dev/shm", "ok", found)


def _mutex() -> Finding:
    """Let a child process die while it holds a robust mutex in a memfd, then take the mutex over."""
    try:
        words = _recover_from_dead_owner()
    except (OSError, PolygenError, RuntimeError) as problem:
        return Finding("machine", "shared-memory ring", "problem", str(problem), "use Linux with glibc 2.30 or newer")
    return Finding("machine", "shared-memory ring", "ok", words)


def _recover_from_dead_owner() -> str:
    fd = os.memfd_create("polygen-doctor", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        memory = mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)
    mutex = RobustMutex(np.frombuffer(memory, dtype=np.uint8, count=MUTEX_BYTES))
    mutex.initialise()
    child = os.fork()
    if child == 0:
        mutex.acquire(1.0)
        os._exit(0)  # without releasing it
    os.waitpid(child, 0)
    outcome = mutex.acquire(1.0)
    if outcome is not Acquired.OWNER_DIED:
        raise OSError(f"a robust mutex did not report the death of its owner ({outcome.name}, {libc_id()})")
    mutex.mark_consistent()
    mutex.release()
    return f"memfd and robust mutex work ({libc_id()})"
