"""TensorRT plans at work: on torch's memory and torch's stream, with one block of scratch memory for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polygen_stream.base.errors import PolygenError
from polygen_stream.engine.batching import run_in_sizes
from polygen_stream.engine.profile import Profile


def open_plans(
    trt: Any, engines: Mapping[str, tuple[Path, Profile]], cuda_graphs: bool, device: str = "cuda"
) -> dict[str, TensorRtSession]:
    """Load a generator's plans.

    They run one after another, so what one of them needs for its activations is free again for the next: all share a
    block as large as the largest asks for. That is most of what an engine takes beside its weights.

    Args:
        trt: The library, tensorrt or tensorrt_rtx.
        engines: By part the plan's file, and the shapes and types it was built for.
        cuda_graphs: Record a call of each number of rows, and replay it afterwards.
        device: CUDA device of the scratch memory.

    Returns:
        A session for each part. They must run one at a time.

    Raises:
        PolygenError: A plan does not load on this machine.
    """
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    loaded = {}
    for part, (path, profile) in engines.items():
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise PolygenError(f"{path} does not load here: rebuild it on this machine")
        loaded[part] = engine, profile
    most = max(engine.device_memory_size_v2 for engine, _ in loaded.values())
    # From torch's allocator: its blocks begin at multiples of 512 bytes, and TensorRT asks for 256.
    scratch = torch.empty(most, dtype=torch.uint8, device=device)
    return {
        part: TensorRtSession(trt, engine, profile, scratch, cuda_graphs) for part, (engine, profile) in loaded.items()
    }


@dataclass(frozen=True)
class Binding:
    """One tensor of a call as the driver gets it."""

    name: str
    shape: tuple[int, ...]
    tensor: Tensor  # on the device, of the engine's type, contiguous


def bind(inputs: Mapping[str, Tensor], profile: Profile) -> list[Binding]:
    """The inputs of a call as an engine takes them: its names, its types, rows within its profile.

    Raises:
        PolygenError: a name too few or too many, a row of another shape, or a number of rows outside the profile.
    """
    if set(inputs) != set(profile.shapes):
        raise PolygenError(f"the engine takes {sorted(profile.shapes)}, the pipeline gives {sorted(inputs)}")
    fewest, _, most = profile.rows
    bindings = []
    for name, tensor in inputs.items():
        rows, *shape = tensor.shape
        if tuple(shape) != tuple(profile.shapes[name]) or not fewest <= rows <= most:
            raise PolygenError(
                f"{name}: the engine takes {fewest} to {most} rows of {list(profile.shapes[name])}, "
                f"the pipeline gives {rows} of {shape}: rebuild it for this size"
            )
        tensor = tensor.to(getattr(torch, profile.dtypes[name])).contiguous()
        bindings.append(Binding(name, tuple(tensor.shape), tensor))
    return bindings


class TensorRtSession:
    """A plan on a CUDA device, for calls of any number of rows.

    Args:
        engine: TensorRT's ICudaEngine.
        scratch: uint8, at least as large as the engine asks for; other sessions that never run at the same time may
            have the same.
        cuda_graphs: record a call of each number of rows, and replay it afterwards.
    """

    def __init__(self, trt: Any, engine: Any, profile: Profile, scratch: Tensor, cuda_graphs: bool) -> None:
        self._trt, self._engine, self._profile, self._scratch = trt, engine, profile, scratch
        self._cuda_graphs = cuda_graphs
        self._context = _Context(trt, engine, scratch)
        self._recorded: dict[int, _Recorded] = {}  # by number of rows

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute a call of any number of rows.

        Args:
            inputs: Named CUDA tensors [rows, ...] of the profile's shapes; they are converted to its types.

        Returns:
            Named CUDA tensors [rows, ...].

        Raises:
            PolygenError: Other names or shapes than the plan was built for, or TensorRT refuses the call.
        """
        fewest, _, most = self._profile.rows
        return run_in_sizes(self._run, inputs, range(fewest, most + 1))

    def _run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        bound = bind(inputs, self._profile)
        if not self._cuda_graphs:
            outputs = self._context.place(bound)
            self._context.execute()
            return outputs
        rows = bound[0].shape[0]
        if rows not in self._recorded:
            # A recording holds on to the state of its context: each gets its own.
            self._recorded[rows] = _Recorded(_Context(self._trt, self._engine, self._scratch), bound)
        return self._recorded[rows].replay(bound)


class _Context:
    """TensorRT's IExecutionContext on memory that it does not own."""

    def __init__(self, trt: Any, engine: Any, scratch: Tensor) -> None:
        self._context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        self._context.set_device_memory(scratch.data_ptr(), scratch.numel())
        self._held = [scratch]  # TensorRT knows addresses only
        self._device = scratch.device
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._outputs = {
            name: _torch_type(trt, engine.get_tensor_dtype(name))
            for name in names
            if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
        }

    def place(self, bound: list[Binding]) -> dict[str, Tensor]:
        """Tell the driver where the inputs of the next run lie, and where its outputs go; returns those."""
        for binding in bound:
            _check(self._context.set_input_shape(binding.name, binding.shape), f"the shape of {binding.name}")
            _check(self._context.set_tensor_address(binding.name, binding.tensor.data_ptr()), binding.name)
        outputs = {
            name: torch.empty(tuple(self._context.get_tensor_shape(name)), dtype=dtype, device=self._device)
            for name, dtype in self._outputs.items()
        }
        for name, tensor in outputs.items():
            _check(self._context.set_tensor_address(name, tensor.data_ptr()), name)
        self._held[1:] = [binding.tensor for binding in bound]
        return outputs

    def execute(self) -> None:
        """Put the run on torch's current stream; it is over when the stream gets there."""
        _check(self._context.execute_async_v3(current_stream()), "to run")


class _Recorded:
    """A call of a fixed number of rows as a CUDA graph, on buffers of its own."""

    def __init__(self, context: _Context, bound: list[Binding]) -> None:
        self._inputs = [Binding(each.name, each.shape, each.tensor.clone()) for each in bound]
        self._outputs = context.place(self._inputs)
        context.execute()  # what TensorRT does after a change of shape must not be part of the recording
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            context.execute()
        self._context = context

    def replay(self, bound: list[Binding]) -> dict[str, Tensor]:
        for mine, given in zip(self._inputs, bound, strict=True):
            mine.tensor.copy_(given.tensor)
        self._graph.replay()
        return {name: tensor.clone() for name, tensor in self._outputs.items()}  # the next replay writes over them


def current_stream() -> int:
    """Return the handle of torch's current CUDA stream, as the driver knows it."""
    return torch.cuda.current_stream().cuda_stream


def _check(accepted: bool, what: str) -> None:
    if not accepted:
        raise PolygenError(f"TensorRT refused {what}: its log says why")


def _torch_type(trt: Any, dtype: Any) -> torch.dtype:
    return {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.BF16: torch.bfloat16,
        trt.DataType.INT64: torch.int64,
        trt.DataType.INT32: torch.int32,
        trt.DataType.BOOL: torch.bool,
    }[dtype]
