"""What a backend has to offer."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

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
        """Return named outputs [rows, ...] for named, contiguous inputs [rows, ...] of any number of rows.

        Names, shapes and types are those of the part's `Profile`; the tensors are on the backend's device.
        """
        ...


class Backend(Protocol):
    """Compile graphs into engine files and open them again.

    `generators.backend` names one of the registry, or is the "module:attribute" of a class or function of the user's
    own that returns one when it is called without arguments. That must import no library: the build command, the
    builder's process and every renderer make one, and ask it for its key before anything is loaded. A build is compared
    with eager by the recipe's tolerances before it is published; a renderer for which nothing was built runs eager.

    Attributes:
        package: Distribution that does the work; its version is part of an engine's key.
        extra: Extra of polygen-stream that installs it; "" if none does.
        suffix: Of engine files, with the dot.
        device: "cpu" or "cuda": where the tensors of a call are.
        bf16: Whether it computes the parts that the recipe allows in bfloat16.
        quantizes: Whether it computes the parts that the recipe names in 8 bits.
    """

    @property
    def package(self) -> str:
        """Distribution that does the work."""
        ...

    @property
    def extra(self) -> str:
        """Extra of polygen-stream that installs the package; "" if none does."""
        ...

    @property
    def suffix(self) -> str:
        """Suffix of engine files, with the dot."""
        ...

    @property
    def device(self) -> str:
        """Device of the tensors of a call, "cpu" or "cuda"."""
        ...

    @property
    def bf16(self) -> bool:
        """Whether the parts that the recipe allows are computed in bfloat16."""
        ...

    @property
    def quantizes(self) -> bool:
        """Whether the parts that the recipe names are computed in 8 bits."""
        ...

    def target(self) -> str:
        """Return the hardware that an engine is made for, in words; engines of another target are not loaded."""
        ...

    def flags(self) -> str:
        """Return everything else that decides what `compile` makes, such as a version of the backend's own code."""
        ...

    def runs_here(self) -> bool:
        """Whether this machine can run what `compile` makes, and so compare it with eager."""
        ...

    def compile(self, job: Job) -> None:
        """Make the engine file of one part.

        Raises:
            UserError: A library is missing, or the recipe asks for what this backend cannot do.
            PolygenError: The graph cannot be compiled. Of other exceptions the stage and type are reported.
        """
        ...

    def open(
        self, engines: Mapping[str, tuple[Path, Profile]], options: TensorRtSpec, threads: int
    ) -> Mapping[str, Session]:
        """Load a generator's engine files, whose key and hashes have been checked.

        Args:
            engines: By part the engine file, and the shapes and types it was built for.
            options: The recipe's [engine.tensorrt] table.
            threads: Compute threads on a CPU.

        Returns:
            A session for each part. They run one at a time and may share memory.
        """
        ...


@runtime_checkable
class CrossBuilder(Protocol):
    """A backend that builds for other hardware than this machine's."""

    def aimed_at(self, capability: str) -> Backend:
        """Return the same backend for a GPU architecture, e.g. "SM89".

        Raises:
            UserError: It does not know the architecture.
        """
        ...


def installed_version(backend: Backend) -> str:
    """Version of a backend's package.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    # NVIDIA's libraries also come under a name of their own for each version of CUDA.
    versions = [package_version(f"{backend.package}{cuda}") for cuda in ("", "-cu13", "-cu12")]
    version = next((version for version in versions if version != "absent"), None)
    if version is None:
        package = f"'polygen-stream[{backend.extra}]'" if backend.extra else backend.package
        raise UserError(
            f"{backend.package} is not installed: pip install {package}, or set generators.backend to eager"
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
