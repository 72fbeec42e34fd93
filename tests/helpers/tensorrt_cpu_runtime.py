"""A stand-in for TensorRT's runtime on a CPU, as strict as its documentation.

It takes what the driver would take (names, shapes, addresses, a block of memory), refuses what the driver would refuse,
and computes at the addresses it was given. So it shows that a session tells the driver the right things; what a GPU
does with them it cannot show.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from polygen_stream.engine.profile import Profile

DataType = Enum("DataType", "FLOAT HALF BF16 INT32 INT64 BOOL")
TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")
ExecutionContextAllocationStrategy = Enum("ExecutionContextAllocationStrategy", "STATIC USER_MANAGED")

TORCH = {
    DataType.FLOAT: torch.float32,
    DataType.HALF: torch.float16,
    DataType.BF16: torch.bfloat16,
    DataType.INT32: torch.int32,
    DataType.INT64: torch.int64,
    DataType.BOOL: torch.bool,
}


class Logger:
    ERROR = 1

    def __init__(self, severity: int) -> None:
        self.severity = severity


@dataclass
class Network:
    """What a plan computes: `outputs` from named tensors of the profile's types to the named results."""

    profile: Profile
    outputs: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    forms: Mapping[str, tuple[str, tuple[int, ...]]]  # of the results: type, and the dimensions after the first
    scratch: int = 512  # bytes that a run writes over
    contexts: list[Context] = field(default_factory=list)


class Driver:
    """The module `tensorrt`; its plans are files that hold a network's name."""

    Logger, DataType, TensorIOMode = Logger, DataType, TensorIOMode
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks = networks

    def Runtime(self, logger: Logger) -> Runtime:
        return Runtime(self.networks)


class Runtime:
    def __init__(self, networks: Mapping[str, Network]) -> None:
        self._networks = networks

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        network = self._networks.get(serialized_engine.decode())
        return Engine(network) if network else None


class Engine:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._names = [*network.profile.shapes, *network.forms]

    @property
    def device_memory_size_v2(self) -> int:
        return self._network.scratch

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._network.profile.shapes else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        known = self._network.profile.dtypes
        dtype = getattr(torch, known[name] if name in known else self._network.forms[name][0])
        return next(each for each, its in TORCH.items() if its is dtype)

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> Context:
        self._network.contexts.append(Context(self._network, self, strategy))
        return self._network.contexts[-1]


class Context:
    def __init__(self, network: Network, engine: Engine, strategy: ExecutionContextAllocationStrategy) -> None:
        self._network, self._engine = network, engine
        self._managed = strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        self.memory: tuple[int, int] | None = None  # address, bytes
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.rows: list[int] = []  # of the runs

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self._managed and size >= self._network.scratch and memory % 64 == 0
        self.memory = memory, size

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        profile = self._network.profile
        if name not in profile.shapes or tuple(shape[1:]) != tuple(profile.shapes[name]):
            return False
        if not profile.rows[0] <= shape[0] <= profile.rows[2]:
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._network.profile.shapes:
            return self._shapes.get(name, (-1, *self._network.profile.shapes[name]))
        rows = {shape[0] for shape in self._shapes.values()}
        known = set(self._shapes) == set(self._network.profile.shapes) and len(rows) == 1
        return (rows.pop() if known else -1, *self._network.forms[name][1])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._network.profile.shapes and name not in self._network.forms:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        names = {*self._network.profile.shapes, *self._network.forms}
        if set(self._addresses) != names or self.memory is None:
            return False
        if any(-1 in self.get_tensor_shape(name) for name in names):
            return False
        ctypes.memset(self.memory[0], 0xAA, self._network.scratch)
        inputs = {name: self._at_address(name) for name in self._network.profile.shapes}
        self.rows.append(len(next(iter(inputs.values()))))
        for name, tensor in self._network.outputs(inputs).items():
            self._at_address(name).copy_(tensor)
        return True

    def _at_address(self, name: str) -> Tensor:
        shape, dtype = self.get_tensor_shape(name), TORCH[self._engine.get_tensor_dtype(name)]
        count = torch.Size(shape).numel()
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(self._addresses[name])
        return torch.frombuffer(memory, dtype=dtype, count=count).view(shape)
