"""GPU memory of every process of a run, item by item.

Estimates, never compared with a GPU. Those of the trainer and of eager renderers have been compared with what torch's
allocator counts for the same kernels on a device that does not compute (torch 2.14): the items are what is allocated,
and "allocator" is what the allocator keeps beyond that, of blocks that were freed.
"""

from __future__ import annotations

from dataclasses import dataclass

from polygen_stream.assets.hub import language_model
from polygen_stream.capacity.gpus import GIB, GpuSpec, index_of
from polygen_stream.capacity.model_size import ModelSize, model_size
from polygen_stream.config import RunConfig, images_per_text
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import ProcessPlan, ProcessSpec

CONTEXT_GIB = 0.5  # CUDA context and libraries of one process
SPARE = 0.05  # share of a GPU for its driver and for fragmentation
# Three tensors of the decoder's widest stage at full resolution, 256 channels in 16 bits: 384 MiB a picture of 512
# pixels. Allocated beyond the weights, a picture of eight: 0.376 GiB of SD 1.5 and SD 2, 0.750 of SDXL-Turbo, whose
# decoder computes in float32, and 0.411 of SANA, whose decoder is of another kind.
EAGER_CHANNELS = 3 * 256
# Its stages have tensors of many sizes, and freed blocks of one seldom fit the next: 1.87 to 1.91 times the above is
# reserved.
EAGER_KEPT = 0.9
# Of compiled parts nothing was measured. SD 1.5 at 512 pixels, batch 8, half precision took 10.6 GB on a V100
# (onnxruntime's stable_diffusion README), of which 2.1 GB are weights: 1.06 GB a picture, in the decoder mostly, which
# is twice that in float32.
WORKSPACE_GIB = 1.0
NCCL_GIB = 1.0
LARGEST_BATCH = 256  # images per call; larger ones compute no faster
EVALUATION_BATCH = 256  # of evaluate/encoder.py
PROMPT_TOKENS = 1024  # longest context that captions/models/vllm_model.py serves
VLLM_GRAPHS_GIB = 1.5  # its activations and CUDA graphs
MIB = 2**20
STAYS = ("CUDA context", "model state", "pixels")  # on the GPU while another process works
FREED = ("activations", "allocator")  # neither there nor in main memory then


@dataclass(frozen=True)
class Item:
    """A part of a process's memory.

    Attributes:
        what: What it holds.
        gib: Size in GiB.
        how: The arithmetic.
    """

    what: str
    gib: float
    how: str


@dataclass(frozen=True)
class Need:
    """Memory that a process takes of its GPU.

    Attributes:
        process: The process.
        items: Its parts.
        short: Why the memory it is configured to take cannot suffice; None if it does.
    """

    process: ProcessSpec
    items: tuple[Item, ...]
    short: str | None = None

    @property
    def gib(self) -> float:
        """Sum over the items, in GiB."""
        return sum(item.gib for item in self.items)


def gpu_needs(config: RunConfig, plan: ProcessPlan, gpus: list[GpuSpec]) -> dict[int, list[Need]]:
    """Return the processes of each GPU that the plan names, by index, which may be one that `gpus` lacks."""
    needs: dict[int, list[Need]] = {}
    for process in plan.processes:
        index = index_of(process.device)
        if index is None:
            continue
        total = gpus[index].nbytes / GIB if index < len(gpus) else 0.0
        items, short = _items(config, process, total)
        context = Item("CUDA context", CONTEXT_GIB, "one process")
        needs.setdefault(index, []).append(Need(process, (*items, context), short))
    return dict(sorted(needs.items()))


def together(users: list[Need], in_turns: bool) -> float:
    """Return the GiB that a GPU's processes take at once.

    In turns one process works, and of the others only the items in STAYS are on the GPU.
    """
    if not in_turns:
        return sum(need.gib for need in users)
    stays = [sum(item.gib for item in need.items if item.what in STAYS) for need in users]
    return sum(stays) + max(need.gib - kept for need, kept in zip(users, stays, strict=True))


def problems(needs: dict[int, list[Need]], gpus: list[GpuSpec], in_turns: bool) -> list[str]:
    """Return why the processes do not fit the GPUs as configured; empty if they fit."""
    found = []
    absent = [index for index in needs if index >= len(gpus)]
    if absent:
        found.append(f"the config uses cuda:{max(absent)}, and there are {len(gpus)} GPUs (cuda:0 is the first)")
    for index, users in needs.items():
        found += [f"cuda:{index}: {need.process.label}: {need.short}" for need in users if need.short]
        if index >= len(gpus):
            continue
        there = gpus[index].nbytes / GIB * (1 - SPARE)
        needed = together(users, in_turns)
        if needed > there:
            parts = " + ".join(f"{need.process.label} {need.gib:.1f}" for need in users)
            how = "in turns " if in_turns else ""
            found.append(
                f"cuda:{index} ({gpus[index].name}) has {there:.1f} GiB to give, and {parts} = {how}{needed:.1f} GiB "
                "are asked for: put them on different GPUs, let them take turns (launch.time_slice_s), or lower "
                "generators.batch, captions.gpu_memory_utilization or raise train.accum_freq"
            )
    return found


def largest_batch(config: RunConfig, plan: ProcessPlan, gpus: list[GpuSpec]) -> int | None:
    """Return the largest generators.batch, a power of two, with which the processes fit the GPUs.

    Returns:
        Images per call; 0 if not even one fits; None if nothing renders on a GPU.
    """
    if all(index_of(process.device) is None for process in plan.with_role("renderer")):
        return None
    batch = LARGEST_BATCH
    while batch and problems(gpu_needs(_with_batch(config, batch), plan, gpus), gpus, config.launch.time_slice_s > 0):
        batch //= 2
    return batch


def _with_batch(config: RunConfig, batch: int) -> RunConfig:
    return config.model_copy(update={"generators": config.generators.model_copy(update={"batch": batch})})


def _items(config: RunConfig, process: ProcessSpec, total: float) -> tuple[list[Item], str | None]:
    match process.role:
        case "renderer":
            assert process.generator is not None, "a renderer has a generator"
            return renderer_items(config, process.generator), None
        case "captioner":
            return _vllm(config, total) if config.captions.source == "vllm" else (_transformers(config), None)
        case "trainer":
            return trainer_items(config), None
    return evaluator_items(config), None


def renderer_items(config: RunConfig, generator: str) -> list[Item]:
    """Return the memory of a renderer: weights, and what its pictures take while they are made."""
    recipe, batch = load_recipe(config.generators.recipe_of(generator)), config.generators.batch
    parts = [part for part in recipe.parameters if part not in recipe.without]
    weights = sum(recipe.bytes_of(part) for part in parts) / GIB
    how = " + ".join(f"{part} {recipe.parameters[part]:g} M {recipe.dtype_of(part)}" for part in parts)
    items = [Item("weights", weights, how or "unknown")]
    pixels, wide = recipe.width * recipe.height, 2 if recipe.dtype_of("vae") == "float32" else 1
    of = f"{batch} pictures x {{:.3g}} GiB{' (float32 decoder)' if wide > 1 else ''}"
    if config.generators.backend.startswith("tensorrt") and recipe.engine:
        each = WORKSPACE_GIB * pixels / 512**2 * wide
        return [*items, Item("TensorRT workspace", batch * each, of.format(each))]
    each = EAGER_CHANNELS * pixels * 2 * wide / GIB
    kept = Item("allocator", batch * each * EAGER_KEPT, f"{EAGER_KEPT:g} x activations, freed and kept")
    return [*items, Item("activations", batch * each, of.format(each)), kept]


def evaluator_items(config: RunConfig) -> list[Item]:
    """Return the memory of an evaluator, which encodes batches of images and of texts in 32 bits, one at a time.

    Compared with what the allocator counts for images of the ring's size: ViT-B-32 1.43 GiB allocated and 1.52
    reserved, ViT-B-16 2.45 and 3.06.
    """
    size, batch, stored = model_size(config.train.model), EVALUATION_BATCH, config.ring.image_size
    if size is None:
        return [Item("model", 0.0, f"the size of {config.train.model} is unknown here")]
    # The batch before, and stored pixels in 8 bits and twice in 32 while they are made smaller: to two copies.
    resized = 12 * size.image_size**2 + 27 * stored**2 + 2 * 12 * size.image_size**2
    each, what = max((size.encoded_image_bytes, "images"), (resized, "images"), (size.encoded_text_bytes, "texts"))
    activations = batch * each / GIB
    return [
        Item("model", size.parameters * 4 / GIB, f"{size.parameters / 1e6:.0f} M float32"),
        Item("activations", activations, f"{batch} {what} x {each / MIB:.1f} MiB"),
        Item("allocator", activations / 3, "1/3 x activations, freed and kept"),
    ]


def loading_gib(config: RunConfig, generator: str) -> float:
    """Return the GiB of main memory that a renderer takes at most while it loads its weights.

    All of them, and the largest part a second time: where its files have another type, or a table of another type as in
    SD 3, the library makes a copy while the file is mapped. Pages of files are counted, which the kernel can take back.
    """
    recipe = load_recipe(config.generators.recipe_of(generator))
    sizes = [recipe.bytes_of(part) for part in recipe.parameters if part not in recipe.without]
    return (sum(sizes) + max(sizes, default=0)) / GIB


def _models(config: RunConfig) -> list[str]:
    return list(dict.fromkeys((config.captions.writer, config.captions.editor)))


def _language_weights(config: RunConfig, name: str) -> float:
    return language_model(name).parameters * 1e6 * (4 if config.captions.dtype == "float32" else 2) / GIB


def _token_bytes(name: str) -> int:
    """Return the bytes of a token in the KV cache, in 16 bits."""
    facts = language_model(name)
    return 2 * facts.layers * facts.kv_heads * facts.head_size * 2


def _vllm(config: RunConfig, total: float) -> tuple[list[Item], str | None]:
    """Return the memory of vLLM, which takes its fraction of the GPU: weights, graphs, and the rest as KV cache."""
    share, items, short = config.captions.gpu_memory_utilization, [], None
    for name in _models(config):
        weights, each = _language_weights(config, name), _token_bytes(name) * PROMPT_TOKENS / GIB
        cache = share * total - weights - VLLM_GRAPHS_GIB
        room = int(cache / each) if each else 0
        how = f"{share:g} x {total:.0f} GiB = weights {weights:.1f} + graphs {VLLM_GRAPHS_GIB} + KV cache {cache:.1f}"
        if each:
            how += f" ({each * 1024:.0f} MiB a context of {PROMPT_TOKENS} tokens: {max(0, room)} at once)"
        items.append(Item(name.rpartition("/")[2], share * total, how))
        if total and weights and room < 1:
            short = (
                f"captions.gpu_memory_utilization = {share:g} of {total:.0f} GiB = {share * total:.1f} GiB holds no "
                f"cache beside the weights of {name} ({weights:.1f} GiB) and {VLLM_GRAPHS_GIB} GiB of graphs: raise it"
            )
    return items, short


def _transformers(config: RunConfig) -> list[Item]:
    items, tokens = [], PROMPT_TOKENS + config.captions.max_tokens
    for name in _models(config):
        items.append(Item(name.rpartition("/")[2], _language_weights(config, name), "weights"))
        cache = config.captions.batch * tokens * _token_bytes(name) / GIB
        items.append(Item("KV cache", cache, f"{config.captions.batch} replies x {tokens} tokens"))
    return items


def trainer_items(config: RunConfig) -> list[Item]:
    """Return the memory of a rank: of its part of the batch, and for its part of the backward pass.

    Pixels and crops are there for the whole step. With gradient accumulation the activations of one micro-batch are,
    and of one tower: images and texts are encoded, and their backward passes taken, one after another. Compared with
    what the allocator counts for one step, without the CUDA context: paper.toml 38.4 GiB by this, 38.6 allocated; with
    the item "allocator" 42.9, 41.5 reserved.
    """
    train, size = config.train, model_size(config.train.model)
    if size is None:
        return [Item("model", 0.0, f"the size of {train.model} is unknown here")]
    ranks = train.ranks * config.launch.nodes
    texts = train.batch / train.ranks
    images, stored = texts * images_per_text(config), config.ring.image_size
    copies = 20 if train.ema_decay else 16
    items = [
        Item("model state", size.parameters * copies / GIB, f"{size.parameters / 1e6:.0f} M x {copies} B (AdamW)"),
        Item("pixels", 2 * images * 3 * stored**2 / GIB, f"2 batches x {images:.0f} images x 3 x {stored}^2 B"),
        Item("crops", images * 12 * size.image_size**2 / GIB, f"{images:.0f} images x 3 x {size.image_size}^2 x 4 B"),
        _activations(train.accum_freq, images, texts, size),
    ]
    candidates = train.batch * config.launch.nodes
    items.append(Item("logits", images * candidates * 4 * 3 / GIB, f"{images:.0f} x {candidates} x 4 B x 3"))
    # Pixels in 32 bits and the grid of the crops, which are gone when activations are made: blocks of a size of their
    # own. Up to 1.0 times that was kept in the steps that were looked at, 0.2 times at the least.
    passing = images * (12 * stored**2 + 8 * size.image_size**2) / GIB
    items.append(Item("allocator", passing, f"{images:.0f} images x (12 x {stored}^2 + 8 x {size.image_size}^2) B of "
                      "augmentation, freed and kept"))  # fmt: skip
    if ranks > 1:
        items.append(Item("gradient buckets", size.parameters * 4 / GIB, f"{size.parameters / 1e6:.0f} M x 4 B (DDP)"))
        items.append(Item("NCCL", NCCL_GIB, "buffers"))
    return items


def _activations(accum_freq: int, images: float, texts: float, size: ModelSize) -> Item:
    """Return what the backward pass needs of a batch at once."""
    images, texts = images / accum_freq, texts / accum_freq
    of_images = f"{images:.0f} images x {size.image_bytes / MIB:.1f} MiB"
    of_texts = f"{texts:.0f} texts x {size.text_bytes / MIB:.1f} MiB"
    if accum_freq == 1:
        return Item(
            "activations", (images * size.image_bytes + texts * size.text_bytes) / GIB, f"{of_images} + {of_texts}"
        )
    larger = max(images * size.image_bytes, texts * size.text_bytes)
    how = of_images if larger == images * size.image_bytes else of_texts
    return Item("activations", larger / GIB, f"{how}, 1 of {accum_freq} micro-batches")
