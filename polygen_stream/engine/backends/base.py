"""What a backend has to offer."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from polygen_stream.base.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from polygen_stream.engine.profile import Profile
    from polygen_stream.generators.recipe import TensorRtSpec


@dataclass(frozen=True)
class Job:
    """One part to compile.

    Args:
        graph: the ONNX file.
        engine: the file to make; further files share its name up to the first dot.
        options: of TensorRT.
        keep: a folder for what makes later builds faster.
        base: an engine that differs in nothing but its weights, if there is one.
    """

    graph: Path
    engine: Path
    profile: Profile
    options: TensorRtSpec
    keep: Path
    base: Path | None = None


class Session(Protocol):
    """A loaded engine."""

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Named outputs for named, contiguous inputs of any number of rows."""


class Backend(Protocol):
    """Compiles graphs into engine files and opens them again. Making one imports no library."""

    package: str  # distribution that does the work
    extra: str  # extra of polygen-stream that installs it
    suffix: str  # of engine files
    device: str  # "cpu" or "cuda": where the tensors of a call lie
    bf16: bool  # computes the parts that the recipe allows in bfloat16
    quantizes: bool  # computes the parts that the recipe names in 8 bits

    def target(self) -> str:
        """The hardware an engine is made for, in words; engines of another target are not loaded."""

    def flags(self) -> str:
        """Everything else that decides what `compile` makes."""

    def runs_here(self) -> bool:
        """Whether this machine can run what `compile` makes, and so compare it with eager."""

    def compile(self, job: Job) -> None:
        """Make the engine file."""

    def open(
        self, engines: Mapping[str, tuple[Path, Profile]], options: TensorRtSpec, threads: int
    ) -> dict[str, Session]:
        """Load a generator's engine files, by part. Whoever calls has checked their key and hashes.

        The sessions run one at a time: they may share memory.
        """


def installed_version(backend: Backend) -> str:
    """Version of a backend's package.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    # NVIDIA's libraries also come under a name of their own for each version of CUDA.
    versions = [package_version(f"{backend.package}{cuda}") for cuda in ("", "-cu13", "-cu12")]
    version = next((version for version in versions if version != "absent"), None)
    if version is None:
        raise UserError(
            f"{backend.package} is not installed: pip install 'polygen-stream[{backend.extra}]', "
            "or set generators.backend to eager"
        )
    return version


@cache
def package_version(package: str) -> str:
    """Version of an installed distribution, or "absent"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@cache
def processor() -> str:
    """This CPU in words: its model and the vector extensions that compilers choose kernels by."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
    present = set(fields.get("flags", fields.get("Features", "")).split())
    model = [fields[name] for name in ("model name", "cpu family", "model", "CPU part") if name in fields]
    return " ".join([*model, *(flag for flag in wanted if flag in present)])
