"""The schema of a run config: every key, its type, its bounds and its default.

This file is the one place where defaults live; configs/micro.toml repeats them with explanations.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from polygen_stream.assets.resources import recipe_name

# TOML arrays arrive as lists; frozen sections hold tuples.
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


def check_device(name: str) -> str:
    """The name of a device as torch has it, of the kinds that a run knows; of any other a ValueError: what is."""
    if re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name) is None:
        raise ValueError("'cpu', 'cuda' or 'cuda:N'")
    return name


Device = Annotated[str, AfterValidator(check_device)]
Devices = Annotated[tuple[Device, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CaptionsConfig(Section):
    source: Literal["transformers", "vllm", "openai", "grammar", "shards"] = "transformers"
    shards: str = ""  # source shards: their folder
    bank: Literal["micro", "english"] = "micro"
    concepts: str = ""  # english: path or URL of a JSON list of strings
    axes: Names = ()  # drawn from with repetitions as weights; none = all of the bank
    writer: str = "package:mistral"  # language model of T+: shipped with the package, a folder, or a hub id
    editor: str = "package:llama"  # language model of T-
    device: Device = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the weights; auto = float32 on a CPU
    gpu_memory_utilization: float = Field(0.4, gt=0, le=1)  # vllm on a GPU: each engine's share of its memory
    endpoint: str = "http://127.0.0.1:8000/v1"  # openai
    editor_endpoint: str = ""  # openai: of the editor; "" = the same
    timeout_s: float = Field(60.0, gt=0)  # openai: for a reply, repeated attempts included
    temperature: float = Field(0.7, ge=0)  # SynthCLIP's sampling (TextGen/captions_generator.py)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(32, ge=1)  # longest reply
    structured_output_regex: str = ""  # vllm, openai: regular expression that replies are held to; "" = free
    retries: int = Field(4, ge=0)  # further attempts after a refused reply, each with another seed
    deduplicate: bool = False  # drop captions that came before, or the same words in another order
    balance: float = Field(0.0, ge=0)  # t: captions per concept up to which all are kept; 0 = no balancing
    batch: int = Field(16, ge=1)  # replies a model works on at once
    backlog: int = Field(64, ge=1)  # groups open (not yet complete) at once
    sleep_after_s: float = Field(0.0, ge=0)  # vllm: until idle models give their memory back; 0 = never
    target: int = Field(3600, ge=0)  # groups (captions) to produce; 0 = until training ends


class GeneratorsConfig(Section):
    recipes: Names = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")
    positives: int = Field(2, ge=1, le=1024)  # n+: images per caption
    negatives: int = Field(2, ge=0, le=1024)  # images per hard-negative caption
    batch: int = Field(16, ge=1)  # images per pipeline call
    device: Device = "cpu"
    remote: str = ""  # address of a Ray cluster whose machines render; "" = this one does
    remote_recipes: Names = ()  # the generators that do it there; () = all
    remote_actors: int = Field(1, ge=1)  # of each of them
    remote_gpus: float = Field(1.0, ge=0)  # of each actor; below 1: several share one
    remote_resource: str = ""  # a custom resource of the machines that may render, one for each actor; "" = any
    remote_timeout_s: float = Field(600.0, gt=0)  # without any actor alive, loading included
    # Renderers of a compiled backend that find no engine in the cache run eager.
    backend: Literal[
        "eager", "torch-compile", "onnxruntime", "openvino", "openvino-bf16", "tensorrt", "tensorrt-rtx"
    ] = "openvino-bf16"

    @property
    def names(self) -> tuple[str, ...]:
        """The generators' names, in the order of `recipes`: a shipped recipe's own, of a file its name."""
        return tuple(map(recipe_name, self.recipes))

    def recipe_of(self, name: str) -> str:
        """Return the recipe, a name or a path, of the generator of this name."""
        return self.recipes[self.names.index(name)]


class RingConfig(Section):
    # The upper bounds keep byte counts inside 64 bits; whether the memory is there is checked at the start.
    slots: int = Field(12288, ge=1, le=2**32)  # images
    image_size: int = Field(32, ge=8, le=8192)  # pixels, square
    caption_bytes: int = Field(192, ge=16, le=65536)  # UTF-8; a longer caption is rejected, never cut
    mode: Literal["throughput", "deterministic", "replay"] = "throughput"
    window: int = Field(0, ge=0)  # deterministic mode: tasks a step draws from; 0 = as many as fit
    min_fill: int = Field(128, ge=1)  # complete groups before step 0
    max_age: int = Field(0, ge=0)  # training steps; 0 = no limit
    max_backlog: int = Field(0, ge=0)  # images per generator; 0 = no bound
    max_times_sampled: int = Field(0, ge=0)  # 0 = no limit
    samples_per_insert: float = Field(0.0, ge=0)  # 0 = no rate limiter
    error_buffer: float = Field(0.0, ge=0)
    draw_timeout_s: float = Field(120.0, gt=0)
    open_timeout_s: float = Field(600.0, gt=0)
    max_retries: int = Field(3, ge=0)


class CurriculumConfig(Section):
    schedule: Literal["linear", "cosine", "step", "constant"] = "linear"
    start: float = Field(0.0, ge=0, le=0.5)  # share of texts that are hard negatives
    end: float = Field(0.5, ge=0, le=0.5)
    step_at: float = Field(0.5, ge=0, le=1)  # progress at which a "step" jumps
    epoch_captions: int = Field(0, ge=0)  # 0 = progress is the fraction of training
    epochs: int = Field(40, ge=1)  # until `end`
    staircase: bool = False
    leftover_age: int = Field(0, ge=0)  # steps a group waits in the leftover queue; 0 = no queue


class TrainConfig(Section):
    model: str = "micro"
    steps: int = Field(1400, ge=1)
    batch: int = Field(128, ge=2)  # texts per step, T+ and T- together
    ranks: int = Field(1, ge=1, le=62)  # processes that share each batch; the ring's draw board serves no more
    accum_freq: int = Field(1, ge=1)  # micro-batches per step
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False  # torch.compile of both towers
    device: Device = "cpu"
    lr: float = Field(1.5e-3, gt=0)
    warmup: int = Field(50, ge=0)  # steps
    weight_decay: float = Field(0.1, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.98, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    grad_clip: float = Field(1.0, ge=0)  # 0 = off
    objective: Literal["multi_positive", "negclip", "infonce"] = "multi_positive"
    hn_t2i: Literal["same_polarity", "none", "all"] = "same_polarity"
    image_image_weight: float = Field(0.0, ge=0)
    image_image_temperature: float = Field(0.1, gt=0)
    image_image_head: int = Field(0, ge=0)  # width; 0 = on the embedding itself
    loss_chunk: int = Field(4096, ge=0)  # rows of logits at a time; 0 = all
    crop_scale_min: float = Field(0.8, gt=0, le=1)  # smallest share of the image area a random crop keeps
    downsample_probability: float = Field(0.0, ge=0, le=1)  # of scaling a picture down and up again
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the averaged weights; 0 = off
    checkpoint_every: int = Field(200, ge=1)  # steps
    log_every: int = Field(1, ge=1)  # steps
    checkpoint_pictures: bool = True  # keep the ring's pictures in them, or render them again
    keep_checkpoints: int = Field(3, ge=1)


class EvaluateConfig(Section):
    every: int = Field(400, ge=0)  # steps; 0 = only untrained and final
    images_per_thing: int = Field(20, ge=1)
    device: Device = "cpu"


class LaunchConfig(Section):
    trainer_threads: int = Field(1, ge=1)
    renderer_threads: int = Field(1, ge=1)
    captioner_threads: int = Field(1, ge=1)
    evaluator_threads: int = Field(1, ge=1)
    renderers: dict[str, Devices] = {}  # recipe -> devices, one process each; else one on generators.device
    time_slice_s: float = Field(0.0, ge=0)  # processes on one device take turns of this length; 0 = all at once
    captioner_python: str = ""  # interpreter of the captioner; "" = the supervisor's
    hang_timeout_s: float = Field(120.0, gt=0)
    grace_s: float = Field(20.0, ge=0)
    restarts: int = Field(5, ge=0)  # of each process, without progress in between
    prometheus_port: int = Field(0, ge=0, le=65535)  # of 127.0.0.1; 0 = no such page
    trace: bool = False  # what every process does when, for `polygen-stream trace`
    record_shards: str = ""  # folder of shards written while the run goes on; "" = none
    shard_images: int = Field(10_000, ge=1)  # in a shard of it
    nodes: int = Field(1, ge=1)  # machines that train one model together
    node: int = Field(0, ge=0)  # which of them this is
    rendezvous: str = ""  # HOST:PORT of node 0, where the ranks of all nodes meet


class RunConfig(Section):
    name: str = Field("micro", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")  # part of the run folder's name
    seed: int = Field(0, ge=0, lt=2**63)
    captions: CaptionsConfig = CaptionsConfig()
    generators: GeneratorsConfig = GeneratorsConfig()
    ring: RingConfig = RingConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    launch: LaunchConfig = LaunchConfig()
