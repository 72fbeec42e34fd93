"""ONNX Runtime on the CPU: the graph, optimised for this processor and saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polygen_stream.engine.backends.base import Job, processor

if TYPE_CHECKING:
    from torch import Tensor

    from polygen_stream.engine.profile import Profile
    from polygen_stream.generators.recipe import TensorRtSpec


class OnnxRuntime:
    """Any number of rows; float32 only (the CPU provider has no bfloat16 convolution or product)."""

    package = "onnxruntime"
    extra = "onnxruntime"
    suffix = ".onnx"
    device = "cpu"
    bf16 = False
    quantizes = False

    def target(self) -> str:
        """Return the processor: its model and vector extensions."""
        return processor()

    def flags(self) -> str:
        """Return the optimization level as it enters the engine's key."""
        return "optimization=all"

    def runs_here(self) -> bool:
        """Return True: engines are built on the machine that they run on."""
        return True

    def compile(self, job: Job) -> None:
        """Optimise the graph of one part for this processor and save it.

        Args:
            job: The graph to compile and the file to write.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(job.engine)
        if job.graph.with_name(f"{job.graph.name}.data").exists():  # too large for protobuf, and so is what is saved
            weights = f"{job.engine.name}.data"
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
        options.log_severity_level = 3  # it warns that the saved graph is for this kind of processor: so says its key
        ort.InferenceSession(str(job.graph), options, providers=["CPUExecutionProvider"])

    def open(
        self, engines: Mapping[str, tuple[Path, Profile]], options: TensorRtSpec, threads: int
    ) -> dict[str, OnnxSession]:
        """Load a generator's engine files.

        Args:
            engines: By part the engine file, and the shapes and types it was built for.
            options: The recipe's [engine.tensorrt] table; not used.
            threads: Compute threads of each session.

        Returns:
            A session for each part.
        """
        return {part: OnnxSession(path, threads) for part, (path, _) in engines.items()}


class OnnxSession:
    """An optimised graph on the CPU.

    Args:
        engine: The graph that `OnnxRuntime.compile` saved.
        threads: Compute threads.
    """

    def __init__(self, engine: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # done when it was compiled
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Roles share cores: a pool that spins while it waits takes them from the trainer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(str(engine), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute a call of any number of rows.

        Args:
            inputs: Named CPU tensors [rows, ...] of the profile's shapes and types.

        Returns:
            Named CPU tensors [rows, ...].
        """
        import torch

        arrays = self._session.run(self._outputs, {name: tensor.numpy() for name, tensor in inputs.items()})
        return {name: torch.from_numpy(array) for name, array in zip(self._outputs, arrays, strict=True)}
