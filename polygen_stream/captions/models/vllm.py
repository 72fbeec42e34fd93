"""A language model run by vLLM, whose engine lives in a process of its own and is fed while it works.

The engine's process may die (out of memory, a CUDA error): then another one is started, and what was asked of the dead
one is asked of it again, under the same seeds.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from polygen_stream.assets.hub import language_model
from polygen_stream.assets.resources import model_folder, model_path, weights_hash
from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.captions.banks.base import Messages, ModelReply
from polygen_stream.captions.models.async_model import AsyncLanguageModel
from polygen_stream.captions.models.chat import check_chat_template, render_chat
from polygen_stream.captions.models.memory import used_bytes

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

CONTEXT = 1024  # tokens of a prompt and its reply, at most; a longer context would take cache from other requests
CPU_ARGUMENTS = {
    "kv_cache_memory_bytes": 2**30,
    "enforce_eager": True,  # compiling takes longer than it saves
    # Of a prompt that is read in parts vLLM turns the row's random generator back, which one of a CPU cannot.
    "enable_chunked_prefill": False,
}
# So often in a row may the engine die without a single reply.
DEATHS = 3
REFUSED = "refused by the engine"
SHUTDOWN_S = 1.0  # an engine without requests has nothing to put in order

_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # A fork would inherit the captioner's threads and its mapping of the ring.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # On a CPU this runs the model in the engine's process instead of one more, and leaves the choice of cores to the
    # kernel and the number of threads to OMP_NUM_THREADS.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # captions.structured_output_regex is compiled once for all requests, which may take long on a busy machine.
    "VLLM_REGEX_COMPILATION_TIMEOUT_S": "120",
    # The engine names its process; without this it does so over the variables by which the guardian knows its own.
    "SPT_NOENV": "1",
}


class VllmModel(AsyncLanguageModel):
    """A causal language model with a chat template.

    Args:
        name: "package:NAME" for a shipped one, a local folder, or a hub id.
        device: "cpu" or "cuda"; which GPU is "cuda" says CUDA_VISIBLE_DEVICES.
        dtype: "auto" is the model's own, but float32 on a CPU.
        max_tokens: longest reply.
        batch: requests that the engine works on at once.
        structured_output_regex: a regular expression that every reply matches; "" = free.
        gpu_memory_utilization: of the GPU's memory.
        can_sleep: whether `sleep` will be called. On a GPU it moves the weights to main memory and frees the cache. On
            a CPU it ends the engine, which the next request starts again.

    Raises:
        UserError: vLLM is not installed, the model cannot be loaded, or its tokenizer has no chat template.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str,
        dtype: str,
        temperature: float,
        top_p: float,
        max_tokens: int,
        batch: int,
        structured_output_regex: str,
        gpu_memory_utilization: float,
        can_sleep: bool,
    ) -> None:
        for variable, value in _SETTINGS.items():
            os.environ.setdefault(variable, value)
        try:
            import vllm  # noqa: F401 whether it is there is all
        except ImportError as problem:
            raise UserError(
                f"captions.source = 'vllm' needs vLLM, which the captioner's interpreter does not have ({problem}): "
                "make vllm-env, and set launch.captioner_python = '.venv-vllm/bin/python'"
            ) from None
        # The engine's lock is a named one, which outlives kill -9: by its name the guardian knows whose it was.
        if mark := os.environ.get("POLYGEN_STREAM_RUN"):
            multiprocessing.current_process()._config["semprefix"] = f"/mp-{mark}"
        super().__init__(batch)
        self._name, self._source = name, model_path(name)
        self._on_cpu, self._sleeps = device == "cpu", can_sleep and device != "cpu"
        self._arguments = {
            "model": self._source,
            "revision": language_model(name).revision,
            "dtype": "float32" if self._on_cpu and dtype == "auto" else dtype,
            "max_num_seqs": batch,
            "enable_sleep_mode": self._sleeps,
            "disable_log_stats": True,
            **(CPU_ARGUMENTS if self._on_cpu else {"gpu_memory_utilization": gpu_memory_utilization}),
        }
        self._sampling = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        self._structured_output_regex = structured_output_regex
        self._engine: AsyncLLM | None = None
        self._asleep = False
        self._starting = asyncio.Lock()
        self._deaths = self._requests = 0
        self._begin(self._open())

    @property
    def provenance(self) -> Mapping[str, object]:
        from vllm import __version__

        return {
            "model": self._name,
            "sha256": weights_hash(model_folder(self._name)),
            "engine": f"vllm {__version__}",
            "dtype": self._arguments["dtype"],
            **self._sampling,
            "structured_output_regex": self._structured_output_regex,
        }

    def sleep(self) -> int:
        if self._engine is None or self._asleep:
            return 0
        before = used_bytes(self._on_cpu)
        self._run(self._rest())
        return max(0, before - used_bytes(self._on_cpu))

    def close(self) -> None:
        super().close()
        self._end()

    async def _open(self) -> None:
        self._tokenizer = (await self._awake()).get_tokenizer()
        check_chat_template(self._tokenizer, self._name)

    async def _reply(self, prompt: Messages, seed: int) -> ModelReply:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        ids = self._tokenizer(render_chat(self._tokenizer, prompt), add_special_tokens=False).input_ids
        while True:
            engine = await self._awake()
            try:
                reply = await self._generate(engine, ids, seed)
            except EngineDeadError:
                await self._bury(engine)
            except (ValueError, EngineGenerateError) as problem:  # it cannot meet this request, and goes on
                logging.warning("%s refuses a prompt of %d tokens: %s", self._name, len(ids), problem)
                return ModelReply("", finished=True, fault=REFUSED)
            else:
                self._deaths = 0
                return reply

    async def _generate(self, engine: AsyncLLM, ids: list[int], seed: int) -> ModelReply:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self._requests += 1  # a number is not used twice, not even after a death
        sampling = SamplingParams(
            **self._sampling,
            seed=seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            structured_outputs=StructuredOutputsParams(regex=self._structured_output_regex)
            if self._structured_output_regex
            else None,
        )
        async for output in engine.generate({"prompt_token_ids": ids}, sampling, str(self._requests)):
            [reply] = output.outputs
        self.tokens += len(reply.token_ids)
        if reply.finish_reason not in ("stop", "length"):  # e.g. a regex that cannot be compiled
            return ModelReply("", finished=True, fault=REFUSED)
        return ModelReply(reply.text.strip(), finished=reply.finish_reason == "stop")

    async def _awake(self) -> AsyncLLM:
        """The engine, started or woken first where it has to be."""
        async with self._starting:
            if self._engine is not None and self._asleep:
                from vllm.v1.engine.exceptions import EngineDeadError

                try:
                    await self._engine.wake_up()
                except EngineDeadError:
                    logging.warning("the engine of %s died in its sleep; starting another one", self._name)
                    self._end()
            if self._engine is None:
                self._engine = self._start()
            self._asleep = False
            return self._engine

    def _start(self) -> AsyncLLM:
        """Takes seconds to minutes, in which the loop stands still: nothing can be answered before."""
        from transformers import AutoConfig
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            longest = AutoConfig.from_pretrained(
                self._source, revision=self._arguments["revision"]
            ).max_position_embeddings
            arguments = AsyncEngineArgs(**self._arguments, max_model_len=min(CONTEXT, longest))
            return AsyncLLM.from_engine_args(arguments)
        # Every part of vLLM and of transformers has errors of its own for a folder or machine that is not right.
        except Exception as problem:
            logging.exception("starting vLLM on %s", self._source)
            raise UserError(
                f"language model {self._name}: vLLM cannot run {self._source}: {type(problem).__name__}: {problem}; "
                "its own lines are above in this log"
            ) from None

    async def _bury(self, engine: AsyncLLM) -> None:
        """Makes room for another engine, once for each that died, however many requests it had."""
        async with self._starting:
            if self._engine is not engine:
                return
            self._deaths += 1
            if self._deaths > DEATHS:
                raise PolygenError(
                    f"language model {self._name}: vLLM's engine died {self._deaths} times in a row without a reply; "
                    "its own lines are above in this log"
                )
            logging.warning("the engine of %s died; starting another one and asking it again", self._name)
            self._end()

    async def _rest(self) -> None:
        async with self._starting:
            if not self._sleeps:
                self._end()
                return
            from vllm.v1.engine.exceptions import EngineDeadError

            try:
                await self._engine.sleep(level=1)
                self._asleep = True
            except EngineDeadError:  # it has given everything back
                self._end()

    def _end(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=SHUTDOWN_S)
            gc.collect()
