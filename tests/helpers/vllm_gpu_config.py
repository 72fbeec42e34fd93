"""The configuration that vLLM makes for a GPU out of the captioner's arguments, by vLLM's own code.

python vllm_gpu_config.py CONFIG WRITER EDITOR          (WRITER, EDITOR: folders with a config.json)

vLLM's build for CPUs lacks the kernels of a GPU and finds no GPU: it is told of an A100 of 80 GiB. Prints a JSON object
per engine, and what is refused.
"""

# ruff: noqa: E402  what the imports look for is put in place first
from __future__ import annotations

import json
import sys
import types

for kernels in ("vllm._C_stable_libtorch", "vllm._moe_C_stable_libtorch"):  # of a GPU build, imported by its platform
    sys.modules[kernels] = types.ModuleType(kernels)

import vllm.platforms
from vllm.platforms.cuda import NonNvmlCudaPlatform
from vllm.platforms.interface import DeviceCapability


class OneA100(NonNvmlCudaPlatform):
    """What vLLM asks the driver."""

    @classmethod
    def device_count(cls) -> int:
        return 1

    @classmethod
    def get_cuda_runtime_major(cls) -> int:
        return 13

    @classmethod
    def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
        return DeviceCapability(8, 0)

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        return "NVIDIA A100-SXM4-80GB"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        return 80 * 2**30

    @classmethod
    def is_integrated_gpu(cls, device_id: int = 0) -> bool:
        return False

    @classmethod
    def num_compute_units(cls, device_id: int = 0) -> int:
        return 108


vllm.platforms._current_platform = OneA100()  # before anything else of vLLM asks where it is

from vllm.device_allocator import cumem
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM

from polygen_stream.base.errors import UserError
from polygen_stream.captions.sources import language_models
from polygen_stream.config import load_config

cumem.cumem_available = True  # what sleep mode allocates with is compiled into a GPU build


class Configured(Exception):
    """The engine would start now."""


def main() -> None:
    """Configure both engines."""
    name, *folders = sys.argv[1:]
    captions, made = load_config(name).captions, []

    def from_engine_args(arguments):
        made.append(arguments.create_engine_config(UsageContext.ENGINE_CONTEXT))
        raise Configured

    AsyncLLM.from_engine_args = from_engine_args
    for folder in folders:
        try:
            language_models(captions.model_copy(update={"writer": folder, "editor": folder}))
        except UserError as refused:
            if "Configured" not in str(refused):
                raise
    for found in made:
        model, parallel = found.model_config, found.parallel_config
        heads = model.get_num_kv_heads(parallel)
        figures = {
            "device": found.device_config.device_type,
            "dtype": str(model.dtype),
            "context": model.max_model_len,
            "requests": found.scheduler_config.max_num_seqs,
            "share": found.cache_config.gpu_memory_utilization,
            "sleeps": model.enable_sleep_mode,
            "eager": model.enforce_eager,
            "token_bytes": 2 * 2 * heads * model.get_head_size() * model.get_num_layers(parallel),
            "world": parallel.world_size,
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
