"""A language model run by vLLM, whose engine has its own process and receives requests while it works.

If the engine's process dies (out of memory, a CUDA error), another one is started, and the requests of the dead one are
repeated with the same seeds.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polygen_stream.assets.hub import language_model
from polygen_stream.assets.resources import model_folder, model_path, weights_hash
from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.captions.banks.base import Messages, ModelReply
from polygen_stream.captions.models.async_model import AsyncLanguageModel
from polygen_stream.captions.models.chat import check_chat_template, render_chat
from polygen_stream.captions.models.memory import used_bytes

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

# Most tokens of a prompt and its reply together. A longer context would take cache from other requests.
CONTEXT = 1024
CPU_ARGUMENTS = {
    "kv_cache_memory_bytes": 2**30,
    "enforce_eager": True,  # compilation takes longer than it saves
    # With chunked prefill vLLM rewinds the random generator of a request, which CPU generators do not support.
    "enable_chunked_prefill": False,
}
DEATHS = 3  # how many times in a row the engine may die without a single reply
REFUSED = "refused by the engine"
SHUTDOWN_S = 1.0  # the engine has no requests when it is shut down

_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # A fork would inherit the captioner's threads and its mapping of the ring.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # On a CPU: run the model in the engine's process instead of another one, leave the choice of cores to the kernel
    # and the number of threads to OMP_NUM_THREADS.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # FlashInfer's sampler is compiled by nvcc when the engine measures its memory, which ends the engine where there is
    # no CUDA toolkit. Requests with a seed, which all of ours have, are sampled by torch in any case.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    # captions.structured_output_regex is compiled once for all requests, which can take minutes on a busy machine.
    "VLLM_REGEX_COMPILATION_TIMEOUT_S": "120",
    # The engine sets its process title. Without this, the title overwrites the environment variables by which the
    # guardian recognises the processes of its run.
    "SPT_NOENV": "1",
}


class VllmModel(AsyncLanguageModel):
    """A causal language model with a chat template.

    Args:
        name: "package:NAME" for a shipped model, a local folder, or a hub id.
        device: "cpu" or "cuda", the first GPU in CUDA_VISIBLE_DEVICES.
        dtype: a torch dtype by name; "auto" is the model's own, but float32 on a CPU.
        temperature: of the sampling; 0 is greedy.
        top_p: of the sampling.
        max_tokens: length of the longest reply.
        batch: the largest number of requests that the engine works on at the same time.
        structured_output_regex: a regular expression that every reply must match; "" for free text.
        gpu_memory_utilization: share of the GPU's memory that the engine may use.
        can_sleep: whether `sleep` will be called. On a GPU the engine then moves its weights to main memory and frees
            its cache. On a CPU the engine is stopped, and the next request starts it again.

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
            import vllm  # noqa: F401 imported only to check that it is installed
        except ImportError as problem:
            raise UserError(
                f"captions.source = 'vllm' needs vLLM, which the captioner's interpreter does not have ({problem}): "
                "make vllm-env, and set launch.captioner_python = '.venv-vllm/bin/python'"
            ) from None
        # The engine's lock is a named semaphore, which survives kill -9. The guardian finds it by the run's mark in its
        # name, for which multiprocessing has no public setting.
        if mark := os.environ.get("POLYGEN_STREAM_RUN"):
            vars(multiprocessing.current_process())["_config"]["semprefix"] = f"/mp-{mark}"
        super().__init__(batch)
        self._name, self._source = name, model_path(name)
        self._on_cpu, self._sleeps_on_gpu = device == "cpu", can_sleep and device != "cpu"
        self._arguments: dict[str, Any] = {
            "model": self._source,
            "revision": language_model(name).revision,
            "dtype": "float32" if self._on_cpu and dtype == "auto" else dtype,
            "max_num_seqs": batch,
            "enable_sleep_mode": self._sleeps_on_gpu,
            "disable_log_stats": True,
            **(CPU_ARGUMENTS if self._on_cpu else {"gpu_memory_utilization": gpu_memory_utilization}),
        }
        self._sampling = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        self._structured_output_regex = structured_output_regex
        self._engine: AsyncLLM | None = None
        self._asleep = False
        self._engine_lock = asyncio.Lock()
        self._deaths = self._requests = 0
        self._start(self._load_tokenizer())

    @property
    def provenance(self) -> Mapping[str, object]:
        """The model, the hash of its weights, the version of vLLM, the dtype and the sampling."""
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
        """Put the engine to sleep (GPU) or stop it (CPU), and return how many bytes that freed."""
        if self._engine is None or self._asleep:
            return 0
        before = used_bytes(self._on_cpu)
        self._run(self._sleep())
        return max(0, before - used_bytes(self._on_cpu))

    def close(self) -> None:
        """Cancel the pending requests and stop the engine."""
        super().close()
        self._stop_engine()

    async def _load_tokenizer(self) -> None:
        self._tokenizer = (await self._ready_engine()).get_tokenizer()
        check_chat_template(self._tokenizer, self._name)

    async def _reply(self, prompt: Messages, seed: int) -> ModelReply:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        ids = self._tokenizer(render_chat(self._tokenizer, prompt), add_special_tokens=False).input_ids
        while True:
            engine = await self._ready_engine()
            try:
                reply = await self._generate(engine, ids, seed)
            except EngineDeadError:
                await self._replace(engine)
            except (ValueError, EngineGenerateError) as problem:  # the engine rejects this request only
                logging.warning("%s refuses a prompt of %d tokens: %s", self._name, len(ids), problem)
                return ModelReply("", finished=True, fault=REFUSED)
            else:
                self._deaths = 0
                return reply

    async def _generate(self, engine: AsyncLLM, ids: list[int], seed: int) -> ModelReply:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self._requests += 1  # request ids stay unique when a request is repeated
        sampling = SamplingParams(
            **self._sampling,
            seed=seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            structured_outputs=StructuredOutputsParams(regex=self._structured_output_regex)
            if self._structured_output_regex
            else None,
        )
        outputs = [output async for output in engine.generate({"prompt_token_ids": ids}, sampling, str(self._requests))]
        [reply] = outputs[-1].outputs
        self.tokens += len(reply.token_ids)
        if reply.finish_reason not in ("stop", "length"):  # e.g. the regex cannot be compiled
            return ModelReply("", finished=True, fault=REFUSED)
        return ModelReply(reply.text.strip(), finished=reply.finish_reason == "stop")

    async def _ready_engine(self) -> AsyncLLM:
        """Return the engine; start it or wake it up first if necessary."""
        async with self._engine_lock:
            if self._engine is not None and self._asleep:
                from vllm.v1.engine.exceptions import EngineDeadError

                try:
                    await self._engine.wake_up()
                except EngineDeadError:
                    logging.warning("the engine of %s died in its sleep; starting another one", self._name)
                    self._stop_engine()
            if self._engine is None:
                self._engine = self._start_engine()
            self._asleep = False
            return self._engine

    def _start_engine(self) -> AsyncLLM:
        """Start the engine, which takes seconds to minutes and blocks the loop: no request can be answered before."""
        from transformers import AutoConfig
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            longest = AutoConfig.from_pretrained(
                self._source, revision=self._arguments["revision"]
            ).max_position_embeddings
            arguments = AsyncEngineArgs(**self._arguments, max_model_len=min(CONTEXT, longest))
            return AsyncLLM.from_engine_args(arguments)
        # A broken folder or an unsuitable machine can raise any error of vLLM, transformers and what is below them.
        except Exception as problem:
            logging.exception("starting vLLM on %s", self._source)
            raise UserError(
                f"language model {self._name}: vLLM cannot run {self._source}: {type(problem).__name__}: {problem}; "
                "its own messages are above in this log"
            ) from None

    async def _replace(self, engine: AsyncLLM) -> None:
        """Discard a dead engine, so that the next request starts another one.

        All requests of the dead engine call this; only the first call has an effect.

        Raises:
            PolygenError: the engine died more than `DEATHS` times in a row.
        """
        async with self._engine_lock:
            if self._engine is not engine:
                return
            self._deaths += 1
            if self._deaths > DEATHS:
                raise PolygenError(
                    f"language model {self._name}: vLLM's engine died {self._deaths} times in a row without a reply; "
                    "its own messages are above in this log"
                )
            logging.warning("the engine of %s died; starting another one and asking it again", self._name)
            self._stop_engine()

    async def _sleep(self) -> None:
        async with self._engine_lock:
            if not self._sleeps_on_gpu:
                self._stop_engine()
                return
            from vllm.v1.engine.exceptions import EngineDeadError

            if self._engine is None:
                return
            try:
                await self._engine.sleep(level=1)
                self._asleep = True
            except EngineDeadError:  # its memory is free already
                self._stop_engine()

    def _stop_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=SHUTDOWN_S)
            gc.collect()
