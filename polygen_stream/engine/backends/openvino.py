"""OpenVINO on the CPU, in float32 or, where the recipe allows it, in bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygen_stream.engine.backends.base import Job, processor

if TYPE_CHECKING:
    from torch import Tensor

    from polygen_stream.engine.profile import Profile
    from polygen_stream.generators.recipe import TensorRtSpec


class OpenVino:
    """Plans are made for fixed numbers of rows (a third faster than for any number), when a call first needs one.

    Args:
        bf16: compute the recipe's `engine.bf16` parts in bfloat16, on processors that have it.
    """

    package = "openvino"
    extra = "openvino"
    suffix = ".xml"
    device = "cpu"
    quantizes = False

    def __init__(self, bf16: bool) -> None:
        self.bf16 = bf16

    def target(self) -> str:
        """Return the processor: its model and vector extensions."""
        return processor()

    def flags(self) -> str:
        """Return the precision as it enters the engine's key."""
        return "bfloat16 where allowed" if self.bf16 else "float32"

    def runs_here(self) -> bool:
        """Return True: engines are built on the machine that they run on."""
        return True

    def compile(self, job: Job) -> None:
        """Convert the graph of one part to OpenVINO's format, with uncompressed weights.

        Args:
            job: The graph to convert and the file to write.
        """
        import openvino as ov

        ov.save_model(_core().read_model(job.graph), job.engine, compress_to_fp16=False)

    def open(
        self, engines: Mapping[str, tuple[Path, Profile]], options: TensorRtSpec, threads: int
    ) -> dict[str, OpenVinoSession]:
        """Load a generator's engine files.

        Args:
            engines: By part the engine file, and the shapes and types it was built for.
            options: The recipe's [engine.tensorrt] table; not used.
            threads: Compute threads of each session.

        Returns:
            A session for each part.
        """
        return {part: OpenVinoSession(path, profile, threads) for part, (path, profile) in engines.items()}


def openvino_float32() -> OpenVino:
    """Return the backend of generators.backend = "openvino"."""
    return OpenVino(bf16=False)


def openvino_bfloat16() -> OpenVino:
    """Return the backend of generators.backend = "openvino-bf16"."""
    return OpenVino(bf16=True)


@cache
def _core() -> Any:
    """Return the process's openvino.Core, which lives as long as the process. Not for several threads at once.

    On processors with AMX the CPU plugin of every core replaces the thread's alternate signal stack, and unmaps its own
    when the core is freed. Cores that are not freed in the reverse of their order leave the thread with an unmapped
    one, and the next signal that has a handler kills the process.
    """
    import openvino as ov

    return ov.Core()


class OpenVinoSession:
    """A model on the CPU, compiled for a number of rows when a call first needs it.

    Args:
        engine: The model that `OpenVino.compile` saved.
        profile: Shapes and types of the inputs, and whether to compute in bfloat16.
        threads: Compute threads.
    """

    def __init__(self, engine: Path, profile: Profile, threads: int) -> None:
        self._profile = profile
        self._model = _core().read_model(engine)
        self._properties = {
            "INFERENCE_PRECISION_HINT": "bf16" if profile.bf16 else "f32",  # its own default would be bf16
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Else it binds this process to its first core, and so every renderer of a machine to the same one.
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
        }
        fewest, usual, _ = profile.rows
        self._sizes = sorted({fewest, max(fewest, usual // 4), usual})
        self._requests: dict[int, Any] = {}

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute a call of any number of rows.

        Args:
            inputs: Named CPU tensors [rows, ...] of the profile's shapes and types.

        Returns:
            Named CPU tensors [rows, ...].
        """
        from polygen_stream.engine.batching import run_in_sizes

        return run_in_sizes(self._run, inputs, self._sizes)

    def _run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        import torch

        rows = len(next(iter(inputs.values())))
        if rows not in self._requests:
            self._requests[rows] = self._compile(rows)
        request = self._requests[rows]
        results = request.infer({name: tensor.numpy() for name, tensor in inputs.items()}, share_inputs=True)
        return {output.get_any_name(): torch.from_numpy(array) for output, array in results.items()}

    def _compile(self, rows: int) -> Any:
        model = self._model.clone()
        model.reshape({name: [rows, *shape] for name, shape in self._profile.shapes.items()})
        return _core().compile_model(model, "CPU", self._properties).create_infer_request()
