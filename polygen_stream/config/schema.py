"""The schema of a run config: every key, its type, its bounds, its default and its meaning.

This file is the one place where defaults and meanings live. The docstring of a section is its heading, the description
of a key its comment in `configs/micro.toml`, which `polygen-stream config --defaults` renders, and in the output of
`polygen-stream config`. A description names the choices of a key in double quotes, and "" or 0 where they switch
something off. FIXED, ONWARD or FREE says of every key what a resumed run may do with it (resume_rules.py).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.config import JsonDict

from polygen_stream.assets.resources import recipe_name
from polygen_stream.config.methods import Method
from polygen_stream.registry import CAPTION_SOURCES, ENGINE_BACKENDS, OBJECTIVES, POLICIES, SAMPLERS
from polygen_stream.schedule.curriculum import CurriculumKind

# TOML arrays arrive as lists; frozen sections hold tuples.
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]

Factors = Annotated[
    tuple[Literal["axis", "concept", "generator"], ...],
    BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v),
]


def check_device(name: str) -> str:
    """Return the name of a device as torch spells it.

    Raises:
        ValueError: The name is of no kind that a run supports; the message lists the kinds.
    """
    if re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name) is None:
        raise ValueError("'cpu', 'cuda' or 'cuda:N'")
    return name


# A name of a registry, or the "module:attribute" of a part of the user's own; imported when the run starts.
CaptionSourceName = Annotated[str, CAPTION_SOURCES, AfterValidator(CAPTION_SOURCES.check)]
BackendName = Annotated[str, ENGINE_BACKENDS, AfterValidator(ENGINE_BACKENDS.check)]
ObjectiveName = Annotated[str, OBJECTIVES, AfterValidator(OBJECTIVES.check)]
SamplerName = Annotated[str, SAMPLERS, AfterValidator(SAMPLERS.check)]
PolicyName = Annotated[str, POLICIES, AfterValidator(POLICIES.check)]

Device = Annotated[str, AfterValidator(check_device)]
Devices = Annotated[tuple[Device, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


# What may become of a key when a run is resumed.
FIXED: JsonDict = {"at_resume": "fixed"}  # it decides what a run trains, or on what: another value is another run
ONWARD: JsonDict = {"at_resume": "onward"}  # another value counts for the steps that are still to come
FREE: JsonDict = {"at_resume": "free"}  # it decides how, where or how fast: another value changes no result
MEMORY = "memory"  # ring.storage


class Section(BaseModel):
    """A table of the config: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _counts(cls, value: object) -> object:
        """Refuse an integer that no count reaches: the arithmetic on configs has floats in it."""
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("an integer below 2^63")
        return value


class CaptionsConfig(Section):
    """Captions and hard negatives: which models write them, about what, and how many."""

    source: CaptionSourceName = Field(
        default="transformers",
        json_schema_extra=FIXED,
        description='Source of captions and hard negatives: two language models run by "transformers", by "vllm" or by '
        'a server ("openai"), or the "grammar" of the micro world; or "shards", which hold the images too; or your '
        'own, "module:attribute".',
    )
    shards: str = Field(
        default="",
        json_schema_extra=FREE,
        description='Source "shards": folder of WebDataset shards that --record-shards or `polygen-stream export` '
        "wrote.",
    )
    bank: Literal["micro", "english"] = Field(
        default="micro",
        json_schema_extra=FIXED,
        description='Concepts that captions are about: those of the "micro" world, or "english", which are the '
        "entries of `concepts`.",
    )
    concepts: str = Field(
        default="",
        json_schema_extra=FREE,
        description='Bank "english": path or URL of MetaCLIP\'s metadata.json or of any JSON list of strings.',
    )
    axes: Names = Field(
        default=(),
        json_schema_extra=FIXED,
        description="What hard negatives change. An axis named twice is drawn twice as often; [] = the axes of the "
        "bank.",
    )
    scene_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        json_schema_extra=FIXED,
        description="Share of captions that describe a whole scene, with its place and colours. The others name the "
        "concept, what the axis needs, and little else.",
    )
    writer: str = Field(
        default="package:mistral",
        json_schema_extra=FIXED,
        description='Language model that writes captions: "package:NAME" (shipped with the package), a folder, or a '
        "hub id.",
    )
    editor: str = Field(
        default="package:llama",
        json_schema_extra=FIXED,
        description="Language model that writes hard negatives, named as `writer` is.",
    )
    device: Device = Field(
        default="cpu", json_schema_extra=FREE, description='Device of both models: "cpu", "cuda" or "cuda:N".'
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        json_schema_extra=FIXED,
        description='Type of their weights: "float32", "bfloat16", "float16", or "auto", the model\'s own (float32 on '
        "a CPU).",
    )
    gpu_memory_utilization: float = Field(
        default=0.4,
        gt=0,
        le=1,
        json_schema_extra=FREE,
        description='Source "vllm" on a GPU: share of its memory that each engine takes.',
    )
    endpoint: str = Field(
        default="http://127.0.0.1:8000/v1",
        json_schema_extra=FREE,
        description='Source "openai": URL of the server. Its key is read from the environment (OPENAI_API_KEY).',
    )
    editor_endpoint: str = Field(
        default="",
        json_schema_extra=FREE,
        description='Source "openai": URL of another server for the editor; "" = `endpoint`.',
    )
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        json_schema_extra=FREE,
        description='Source "openai": seconds until a request without a reply fails, repeated attempts included.',
    )
    temperature: float = Field(  # SynthCLIP's sampling (TextGen/captions_generator.py)
        default=0.7, ge=0, json_schema_extra=FIXED, description="Sampling temperature of both models."
    )
    top_p: float = Field(
        default=0.95, gt=0, le=1, json_schema_extra=FIXED, description="Nucleus sampling of both models."
    )
    max_tokens: int = Field(default=32, ge=1, json_schema_extra=FIXED, description="Tokens of the longest reply.")
    structured_output_regex: str = Field(
        default="",
        json_schema_extra=FIXED,
        description='Sources "vllm" and "openai": regular expression that replies have to match; "" = any reply.',
    )
    retries: int = Field(
        default=4,
        ge=0,
        json_schema_extra=FIXED,
        description="Further attempts after a refused reply, each with another seed.",
    )
    deduplicate: bool = Field(
        default=False,
        json_schema_extra=FIXED,
        description="Drop captions that came before, also with their words in another order.",
    )
    balance: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra=FIXED,
        description="Balance concepts, as MetaCLIP does: a caption whose concepts came c times is kept with "
        "probability 1 - prod(1 - min(1, balance / c)); 0 = off. Needs `deduplicate`.",
    )
    batch: int = Field(
        default=16,
        ge=1,
        json_schema_extra=FREE,
        description="Replies that a model generates at once; at most `backlog`.",
    )
    backlog: int = Field(
        default=64,
        ge=1,
        json_schema_extra=FREE,
        description="Captions that may wait for their images at once. A longer queue holds captions meant for a step "
        "that has long passed.",
    )
    sleep_after_s: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra=FREE,
        description='Source "vllm": seconds without work after which the models release their GPU memory until they '
        "are needed (sleep mode); 0 = never.",
    )
    target: int = Field(
        default=3600,
        ge=0,
        json_schema_extra=ONWARD,
        description="Captions to produce in the run; 0 = until training ends.",
    )


class GeneratorsConfig(Section):
    """Generators: the diffusion models that render the images, where and how."""

    recipes: Names = Field(
        default=("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo"),
        json_schema_extra=FIXED,
        description="Recipes of the generators: names of engines/<name>.toml, or paths of TOML files. Each "
        "generator runs in processes of its own.",
    )
    positives: int = Field(
        default=2,
        ge=1,
        le=1024,
        json_schema_extra=FIXED,
        description="Images rendered of each caption, spread evenly over the generators; train.images_per_text of them "
        "come into a batch.",
    )
    negatives: int = Field(
        default=2,
        ge=0,
        le=1024,
        json_schema_extra=FIXED,
        description="Images per hard-negative caption; at most `positives`.",
    )
    batch: int = Field(default=16, ge=1, json_schema_extra=FREE, description="Images per call of a pipeline.")
    device: Device = Field(
        default="cpu",
        json_schema_extra=FREE,
        description='Device of the renderers that launch.renderers does not name: "cpu", "cuda" or "cuda:N".',
    )
    remote: str = Field(
        default="",
        json_schema_extra=FREE,
        description='Address of a Ray cluster whose machines render, e.g. "auto"; "" = this machine renders.',
    )
    remote_recipes: Names = Field(
        default=(),
        json_schema_extra=FREE,
        description="With `remote`: the generators that render on the cluster; [] = all.",
    )
    remote_actors: int = Field(
        default=1, ge=1, json_schema_extra=FREE, description="With `remote`: Ray actors of each generator."
    )
    remote_gpus: float = Field(
        default=1.0,
        ge=0,
        json_schema_extra=FREE,
        description="With `remote`: GPUs of each actor; with 0.5 two actors share one.",
    )
    remote_resource: str = Field(
        default="",
        json_schema_extra=FREE,
        description='With `remote`: custom Ray resource that a machine must have, one per actor; "" = any machine.',
    )
    remote_timeout_s: float = Field(
        default=600.0,
        gt=0,
        json_schema_extra=FREE,
        description="With `remote`: seconds without any live actor, loading included, after which the generator's "
        "bridge is restarted.",
    )
    # Renderers of a compiled backend that find no engine in the cache run eager.
    backend: BackendName = Field(
        default="openvino-bf16",
        json_schema_extra=FREE,
        description='How pipelines compute: "eager", "torch-compile" (compiled in a renderer\'s first calls), or with '
        'engines of `polygen-stream build-engines`: "onnxruntime", "openvino", "openvino-bf16" on a CPU, "tensorrt", '
        '"tensorrt-rtx" on a GPU, or your own, "module:attribute". A generator without an engine runs eager.',
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The generators' names, in the order of `recipes`: a shipped recipe's own, of a file its name."""
        return tuple(map(recipe_name, self.recipes))

    def recipe_of(self, name: str) -> str:
        """Return the recipe, a name or a path, of the generator of this name."""
        return self.recipes[self.names.index(name)]


class RingConfig(Section):
    """Ring: the replay buffer in shared memory that captions and images pass through."""

    # The upper bounds keep byte counts inside 64 bits; whether the memory is there is checked at the start.
    slots: int = Field(
        default=12288,
        ge=1,
        le=2**32,
        json_schema_extra=FIXED,
        description="Images that the ring holds; at least 4 x train.batch x generators.positives.",
    )
    storage: str = Field(
        default=MEMORY,
        min_length=1,
        json_schema_extra=FREE,
        description='Where the images lie: "memory", or a folder on a local disk, in which the run makes a file for '
        "them. A resumed run finds in it all images that were rendered before it was interrupted; without a file only "
        "those of its last checkpoint, if train.checkpoint_images is true.",
    )
    keep_file: bool = Field(
        default=False,
        json_schema_extra=FREE,
        description="Leave the file in the folder `storage` when the run is completed.",
    )
    image_size: int = Field(
        default=32,
        ge=8,
        le=8192,
        json_schema_extra=FIXED,
        description="Side of an image in pixels; images are square RGB.",
    )
    caption_bytes: int = Field(
        default=192,
        ge=16,
        le=65536,
        json_schema_extra=FIXED,
        description="Longest caption in UTF-8 bytes. Longer ones are rejected and counted, never truncated.",
    )
    mode: Literal["throughput", "deterministic", "replay"] = Field(
        default="throughput",
        json_schema_extra=FIXED,
        description='"throughput": a step draws from what is ready; "deterministic": every run draws the same batches; '
        '"replay": the batches of an earlier run, set by `polygen-stream replay`.',
    )
    sampler: SamplerName = Field(
        default="rounds",
        json_schema_extra=FIXED,
        description='Which of the groups that may be drawn a step takes: "rounds" (each once, then each again), '
        '"uniform" (at random), or your own, "module:attribute".',
    )
    catch_up: float = Field(
        default=1.0,
        ge=1,
        json_schema_extra=FIXED,
        description='Sampler "rounds": how many times a round a caption that came late is drawn, at most, so that by '
        "the end it has been drawn as often as the others; 1 = once: it stays behind. Above 1 the ring has to hold all "
        "captions of the run.",
    )
    window: int = Field(
        default=0,
        ge=0,
        json_schema_extra=FIXED,
        description='Mode "deterministic": newest captions that a step draws from; 0 = as many as fit.',
    )
    min_fill: int = Field(
        default=128,
        ge=1,
        json_schema_extra=FIXED,
        description="Complete captions before the first step (Reverb's min_size_to_sample), of all nodes together; at "
        "least train.batch.",
    )
    max_age: int = Field(
        default=0,
        ge=0,
        json_schema_extra=ONWARD,
        description="Steps, from its opening on, during which a caption may be drawn; then it stays until a new one "
        "needs its room. 0 = no limit.",
    )
    max_backlog: int = Field(
        default=0,
        ge=0,
        json_schema_extra=FREE,
        description="Images that a generator may have left to render before captions are no longer given to it; 0 = no "
        "limit.",
    )
    max_times_sampled: int = Field(
        default=0,
        ge=0,
        json_schema_extra=ONWARD,
        description="Draws after which a caption is no longer drawn; it stays until a new one needs its room. 0 = no "
        "limit.",
    )
    samples_per_insert: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra=ONWARD,
        description='Draws per produced caption: the rate limiter\'s ratio, or the pace of mode "deterministic"; 0 = '
        "no limiter.",
    )
    error_buffer: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra=ONWARD,
        description="Draws by which the rate limiter lets draws and inserts deviate from that ratio, all nodes "
        "together.",
    )
    draw_timeout_s: float = Field(
        default=120.0,
        gt=0,
        json_schema_extra=FREE,
        description="Seconds that a trainer waits for a batch before the run ends.",
    )
    open_timeout_s: float = Field(
        default=600.0,
        gt=0,
        json_schema_extra=FREE,
        description="Seconds that a captioner waits for room before the run ends.",
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        json_schema_extra=FREE,
        description="Further attempts to render an image before it counts as failed.",
    )


class SynthesisConfig(Section):
    """Synthesis: which captions are written next, from what training measures of those before."""

    policy: PolicyName = Field(
        default="uniform",
        json_schema_extra=ONWARD,
        description='What is wanted more: "uniform" (nothing), "hardest" (what the model tells apart worst), '
        '"progress" (what it is learning right now), or your own, "module:attribute".',
    )
    by: Factors = Field(
        default=("axis",),
        json_schema_extra=ONWARD,
        description='What "hardest" and "progress" tell apart: the "axis" of a caption, its "concept", the '
        '"generator" of its images.',
    )
    candidates: int = Field(
        default=32,
        ge=1,
        le=1024,
        json_schema_extra=ONWARD,
        description="Tasks that the policy chooses one of. The others are passed over: nothing is written for them.",
    )
    uniform_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        json_schema_extra=ONWARD,
        description="Share of captions that are taken without asking the policy.",
    )
    sharpness: float = Field(
        default=0.7,
        ge=0,
        le=4,
        json_schema_extra=ONWARD,
        description="What is one standard deviation more wanted than the mean weighs exp(`sharpness`) times as much.",
    )
    yields: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={},
        json_schema_extra=ONWARD,
        description="Share of an axis's hard-negative images that show the edit, where it is known, e.g. "
        '{replace_weather = 0.35}: "hardest" and "progress" multiply the weight of the axis by it. The others have 1.',
    )
    half_life: float = Field(
        default=20.0,
        ge=0.1,
        json_schema_extra=ONWARD,
        description="Training steps after which what they measured counts half.",
    )


class CurriculumConfig(Section):
    """Curriculum: the share of hard negatives in a batch over the run."""

    kind: CurriculumKind = Field(
        default="share",
        json_schema_extra=FIXED,
        description='What the share is: "share", of a batch\'s texts that are hard negatives, each beside its caption; '
        'or "co_occurrence", of those beside their caption, while half of all texts are hard negatives throughout.',
    )
    schedule: Literal["linear", "cosine", "step", "constant"] = Field(
        default="linear",
        json_schema_extra=FIXED,
        description='How the share goes from `start` to `end`: "linear", "cosine", "step" (at once, at `step_at`); or '
        '"constant" at `end`.',
    )
    start: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        json_schema_extra=FIXED,
        description="Share of a batch's texts that are hard negatives beside their caption at the first step.",
    )
    end: float = Field(default=0.5, ge=0, le=0.5, json_schema_extra=FIXED, description="The share at the end.")
    step_at: float = Field(
        default=0.5,
        ge=0,
        le=1,
        json_schema_extra=FIXED,
        description='Schedule "step": the point between the start (0) and the end (1) at which the share changes.',
    )
    epoch_captions: int = Field(
        default=0,
        ge=0,
        json_schema_extra=FIXED,
        description="Drawn captions that make an epoch; 0 = no epochs, the share reaches `end` with the last step.",
    )
    epochs: int = Field(
        default=40,
        ge=1,
        json_schema_extra=FIXED,
        description="With `epoch_captions`: epochs until the share is at `end`.",
    )
    staircase: bool = Field(
        default=False,
        json_schema_extra=FIXED,
        description="With `epoch_captions`: change the share between epochs only.",
    )
    leftover_age: int = Field(
        default=0,
        ge=0,
        json_schema_extra=FIXED,
        description="Steps during which a caption that a batch left over is drawn before others; 0 = no leftover "
        "queue.",
    )


class TrainConfig(Section):
    """Training: the CLIP model, its optimizer, its loss and its checkpoints."""

    model: str = Field(
        default="micro",
        json_schema_extra=FIXED,
        description='"micro", another model that open_clip knows, or the path of a model config in its format (JSON).',
    )
    steps: int = Field(default=1400, ge=1, json_schema_extra=ONWARD, description="Optimizer steps of the run.")
    batch: int = Field(
        default=128,
        ge=2,
        json_schema_extra=FIXED,
        description="Texts per step, captions and hard negatives together, over all ranks and nodes.",
    )
    images_per_text: int = Field(
        default=0,
        ge=0,
        json_schema_extra=FIXED,
        description="Images of each text in a batch (n+), chosen anew in every draw, without repetition until all were "
        "shown; 0 = all that are rendered of it.",
    )
    # The ring's draw board serves no more than 62 ranks.
    ranks: int = Field(
        default=1,
        ge=1,
        le=62,
        json_schema_extra=FIXED,
        description='Training processes on this node, which share every batch; with device = "cuda" rank r trains on '
        "cuda:r.",
    )
    accum_freq: int = Field(
        default=1,
        ge=1,
        json_schema_extra=FREE,
        description="Micro-batches that a step is encoded in, to save memory. Gradients are those of the whole batch; "
        "the model must not have batch norms.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        json_schema_extra=FIXED,
        description='"fp32", "bf16" (autocast), or "auto", which is bf16 where the device supports it.',
    )
    compile: bool = Field(
        default=False,
        json_schema_extra=FREE,
        description="torch.compile of both towers: faster steps after minutes of compiling.",
    )
    device: Device = Field(
        default="cpu", json_schema_extra=FREE, description='Device of the trainer: "cpu", "cuda" or "cuda:N".'
    )
    prefetch: bool = Field(
        default=True,
        json_schema_extra=FREE,
        description="Draw the next batch and copy it to the device while a step computes; on a GPU without, each step "
        "waits for it.",
    )
    lr: float = Field(
        default=1.5e-3,
        gt=0,
        json_schema_extra=FIXED,
        description="Peak learning rate of AdamW.",
    )
    warmup: int = Field(default=50, ge=0, json_schema_extra=FIXED, description="Steps of linear warm-up.")
    lr_decay: Literal["cosine", "linear", "sqrt"] = Field(
        default="cosine",
        json_schema_extra=FIXED,
        description='How the learning rate goes to 0 with the last step: as a half "cosine", "linear", or "sqrt", '
        "which is 1 - sqrt(progress).",
    )
    lr_decay_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        json_schema_extra=FIXED,
        description="Share of the steps, the last ones, in which it does so; before, the rate is constant. 1 = from "
        "the warm-up on.",
    )
    weight_decay: float = Field(default=0.1, ge=0, json_schema_extra=FIXED, description="Weight decay of AdamW.")
    beta1: float = Field(default=0.9, ge=0, lt=1, json_schema_extra=FIXED, description="First beta of AdamW.")
    beta2: float = Field(default=0.98, ge=0, lt=1, json_schema_extra=FIXED, description="Second beta of AdamW.")
    eps: float = Field(default=1e-8, gt=0, json_schema_extra=FIXED, description="Epsilon of AdamW.")
    grad_clip: float = Field(
        default=1.0, ge=0, json_schema_extra=FIXED, description="Largest norm of the gradient; 0 = no clipping."
    )
    objective: ObjectiveName = Field(
        default="multi_positive",
        json_schema_extra=FIXED,
        description='Loss: "multi_positive", or one of the baselines "negclip" (no images of hard negatives) and '
        '"infonce" (hard negatives are ordinary samples), or your own, "module:attribute".',
    )
    hn_t2i: Literal["same_polarity", "none", "all"] = Field(
        default="same_polarity",
        json_schema_extra=FIXED,
        description='Objective "multi_positive": images that a text is contrasted with: those of its own kind, '
        'positive or hard negative ("same_polarity"), the same without rows for hard negatives ("none"), or "all".',
    )
    hn_weight: Literal["text_share", "one"] = Field(
        default="text_share",
        json_schema_extra=FIXED,
        description='Objective "multi_positive": weight of the half of the loss about hard negatives: their number '
        'over that of captions ("text_share"), or 1 ("one").',
    )
    image_image_weight: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra=FIXED,
        description="Weight of the contrastive term between images of one caption; 0 = off.",
    )
    image_image_temperature: float = Field(
        default=0.1, gt=0, json_schema_extra=FIXED, description="Temperature of that term."
    )
    image_image_candidates: Literal["hn_t2i", "all"] = Field(
        default="hn_t2i",
        json_schema_extra=FIXED,
        description='Images that an image is contrasted with in that term: those of its own kind unless hn_t2i = "all" '
        '("hn_t2i"), or "all".',
    )
    image_image_head: int = Field(
        default=0,
        ge=0,
        json_schema_extra=FIXED,
        description="Width of a projection head for that term; 0 = the term takes the embedding itself.",
    )
    loss_chunk: int = Field(
        default=4096,
        ge=0,
        json_schema_extra=FREE,
        description="Rows of logits computed at a time, for batches whose logits do not fit into memory; 0 = all at "
        "once.",
    )
    crop_scale_min: float = Field(
        default=0.8,
        gt=0,
        le=1,
        json_schema_extra=FIXED,
        description="Smallest share of an image's area that a random crop keeps.",
    )
    downsample_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        json_schema_extra=FIXED,
        description="Probability of scaling an image down and up again, which removes the fine detail that tells "
        "generators apart.",
    )
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        json_schema_extra=FIXED,
        description="Decay of an exponential moving average of the weights, which evaluation then uses; 0 = off.",
    )
    checkpoint_every: int = Field(default=200, ge=1, json_schema_extra=FREE, description="Steps between checkpoints.")
    log_every: int = Field(default=1, ge=1, json_schema_extra=FREE, description="Steps between lines of the metrics.")
    checkpoint_images: bool = Field(
        default=True,
        json_schema_extra=FREE,
        description="Save the ring's images with each checkpoint; false = a resumed run renders them again.",
    )
    keep_checkpoints: int = Field(
        default=3,
        ge=1,
        json_schema_extra=FREE,
        description="Newest checkpoints that are kept; the untrained and the final one always are.",
    )


class EvaluateConfig(Section):
    """Evaluation: scores of checkpoints while training goes on, and of the final one when it is over."""

    every: int = Field(
        default=400,
        ge=0,
        json_schema_extra=FREE,
        description="Steps between evaluations, a multiple of train.checkpoint_every; 0 = only the untrained and the "
        "final model.",
    )
    tasks: Names = Field(
        default=(),
        json_schema_extra=FREE,
        description="Tasks to score, as `polygen-stream evaluate --tasks` names them, e.g. "
        '["zero_shot:/data/pictures", "sugarcrepe_pp_tot"]. The test set of the micro world is scored besides if '
        "captions.bank is that world, and in no other run unless it is named; so are, before and after training, the "
        "pictures of `polygen-stream fetch-pictures` if they are in its default folder.",
    )
    data: str = Field(
        default="",
        json_schema_extra=FREE,
        description="Folder, or URL of WebDatasets, in which `tasks` find standard datasets, as with "
        '`polygen-stream evaluate --data`; "" = none.',
    )
    images_per_thing: int = Field(
        default=20,
        ge=1,
        json_schema_extra=FREE,
        description="Test images of each class in the zero-shot classification of the micro world.",
    )
    device: Device = Field(
        default="cpu",
        json_schema_extra=FREE,
        description='Device of the evaluator during training: "cpu", "cuda" or "cuda:N". When training is over, '
        "evaluator and report have the trainer's GPU if it had one, and the CPU threads of all processes.",
    )
    timeout_s: float = Field(
        default=1800.0,
        gt=0,
        json_schema_extra=FREE,
        description="Seconds that the last evaluation may compute when training is over, and the report after it. A "
        "run whose scores or report are late is complete without them.",
    )


class LaunchConfig(Section):
    """Launch: the processes of a run, their devices, supervision and records."""

    trainer_threads: int = Field(
        default=1,
        ge=1,
        json_schema_extra=FREE,
        description="CPU threads of each trainer. Thread pools that share cores slow each other down.",
    )
    renderer_threads: int = Field(default=1, ge=1, json_schema_extra=FREE, description="CPU threads of each renderer.")
    captioner_threads: int = Field(default=1, ge=1, json_schema_extra=FREE, description="CPU threads of the captioner.")
    evaluator_threads: int = Field(default=1, ge=1, json_schema_extra=FREE, description="CPU threads of the evaluator.")
    renderers: dict[str, Devices] = Field(
        default={},
        json_schema_extra=FREE,
        description='Devices of a generator\'s renderers, a process on each, e.g. { sd15 = ["cuda:2", "cuda:3"] }. A '
        "generator that is not named has one, on generators.device.",
    )
    time_slice_s: float = Field(
        default=0.0,
        ge=0,
        json_schema_extra=FREE,
        description="Seconds that a process keeps a device while others wait for it, before it releases the device's "
        "memory to the next; 0 = all compute at once.",
    )
    captioner_python: str = Field(
        default="",
        json_schema_extra=FREE,
        description='Python interpreter of the captioner, e.g. ".venv-vllm/bin/python"; "" = the one that runs this '
        "command.",
    )
    hang_timeout_s: float = Field(
        default=120.0,
        gt=0,
        json_schema_extra=FREE,
        description="Seconds without a heartbeat after which a process is killed.",
    )
    grace_s: float = Field(
        default=20.0,
        ge=0,
        json_schema_extra=FREE,
        description="Seconds to write the last checkpoint before a process is killed.",
    )
    restarts: int = Field(
        default=5,
        ge=0,
        json_schema_extra=FREE,
        description="Restarts in a row, without progress in between, of a process that died. After them a generator is "
        "given up, and the death of any other process ends the run.",
    )
    prometheus_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        json_schema_extra=FREE,
        description="Port of 127.0.0.1 on which the run serves its metrics to Prometheus; 0 = none.",
    )
    trace: bool = Field(
        default=False,
        json_schema_extra=FREE,
        description="Record what every process does when, for `polygen-stream trace`.",
    )
    record_shards: str = Field(
        default="",
        json_schema_extra=FREE,
        description='Folder in which the run\'s images are kept as WebDataset shards while it goes on; "" = none.',
    )
    shard_images: int = Field(
        default=10_000, ge=1, json_schema_extra=FREE, description="With `record_shards`: images in a shard."
    )
    nodes: int = Field(
        default=1,
        ge=1,
        json_schema_extra=FIXED,
        description="Machines that train one model together. They share train.batch, captions.target, "
        "ring.min_fill and ring.error_buffer; see also `polygen-stream run --nodes`.",
    )
    node: int = Field(
        default=0, ge=0, json_schema_extra=FIXED, description="With `nodes`: the index of this one, from 0."
    )
    rendezvous: str = Field(
        default="",
        json_schema_extra=FREE,
        description="With `nodes`: HOST:PORT of node 0, at which the ranks of all nodes meet.",
    )


class RunConfig(Section):
    """A run config: its name, its seed and its sections."""

    name: str = Field(
        default="micro",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        json_schema_extra=FREE,
        description="Name of the run, part of its folder's name: runs/<time>-<name>.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        json_schema_extra=FIXED,
        description="Seed from which every caption, image and batch follows.",
    )
    method: Method = Field(
        default="digest",
        json_schema_extra=FIXED,
        description='Options that are not set beside it: those of the "digest" of the paper, or of code under the name '
        'of its first "author". On the command line it replaces those of the config.',
    )
    captions: CaptionsConfig = CaptionsConfig()
    generators: GeneratorsConfig = GeneratorsConfig()
    ring: RingConfig = RingConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    launch: LaunchConfig = LaunchConfig()
