"""A renderer loads a full-size repository out of the hub's cache onto a null GPU; prints what that takes.

python repository.py RECIPE          (HF_HOME is an empty folder)

The files have the names, tensors, types and shards of the published ones, and holes for weights: they take no disk.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from pathlib import Path

import diffusers
import torch
import transformers
from full_size import PARTS, REPOSITORIES, find_timesteps_by_position
from null_gpu import GIB, Counters

from polygen_stream.assets.resources import model_path
from polygen_stream.config import load_config
from polygen_stream.engine.architecture import architecture
from polygen_stream.engine.random_weights import _create
from polygen_stream.fetch.repositories import repositories
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # of a recipe that names a branch
# Published types, where they are not float16 in files of the variant "fp16"; and parts in several files.
PUBLISHED = {
    "sana": {"transformer": torch.float32, "vae": torch.float32, "text_encoder": torch.bfloat16},
    "sd35_medium": {part: torch.bfloat16 for part in ("transformer", "vae", "text_encoder", "text_encoder_2")},
}
SHARDED = {("sana", "transformer"), ("sana", "text_encoder")}
# What the index of a repository names beside the parts that are loaded.
CLASSES = {
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "text_encoder_3": ["transformers", "T5EncoderModel"],
    "tokenizer_3": ["transformers", "T5TokenizerFast"],
}
SAFETENSORS = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}


def publish(recipe: Recipe) -> Path:
    """Write the repository of a recipe into the hub's cache, as a download would have left it."""
    repository = Path(os.environ["HF_HOME"]) / "hub" / f"models--{recipe.weights.replace('/', '--')}"
    commit = recipe.revision if len(recipe.revision) == 40 else COMMIT
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / recipe.revision).write_text(commit)
    scheduler, tokenizers = REPOSITORIES[recipe.name]
    scheduler.save_pretrained(folder / "scheduler")
    index = {"_class_name": recipe.pipeline, "_diffusers_version": "0.30.0"}
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    for part, path in zip(("tokenizer", "tokenizer_2"), tokenizers, strict=False):
        micro, _, sub = path.partition("/")
        tokenizer = transformers.AutoTokenizer.from_pretrained(f"{model_path(f'package:{micro}')}/{sub}")
        tokenizer.model_max_length = recipe.prompt_tokens
        tokenizer.save_pretrained(folder / part)
        index[part] = ["transformers", "GemmaTokenizerFast" if recipe.name == "sana" else "CLIPTokenizer"]
    for part in PARTS:
        if part in recipe.parameters:
            index[part] = _write_part(recipe, part, folder / part)
    index |= {part: CLASSES[part] for part in recipe.without}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _write_part(recipe: Recipe, part: str, folder: Path) -> list[str]:
    with torch.device("meta"):
        module = _create(*architecture(recipe, part))
    name, is_diffusers = type(module).__name__, isinstance(module, diffusers.ModelMixin)
    if is_diffusers:
        module.save_config(folder)
    else:
        module.config.architectures = [name]
        module.config.save_pretrained(folder)
    dtype = PUBLISHED.get(recipe.name, {}).get(part, torch.float16)
    tensors = {key: (dtype, list(tensor.shape)) for key, tensor in module.state_dict().items()}
    if name.startswith("CLIPText"):  # published with this prefix, and the one with a table of positions
        prefixed = {key if key.startswith("text_") else f"text_model.{key}": value for key, value in tensors.items()}
        tensors = {**prefixed, "text_model.embeddings.position_ids": (torch.int64, [1, recipe.prompt_tokens])}
    stem = "diffusion_pytorch_model" if is_diffusers else "model"
    kind = f".{recipe.variant}" if recipe.variant else ""
    if (recipe.name, part) not in SHARDED:
        _write_holes(folder / f"{stem}{kind}.safetensors", tensors)
        return ["diffusers" if is_diffusers else "transformers", name]
    keys, files = list(tensors), {}
    for number, half in enumerate((keys[: len(keys) // 2], keys[len(keys) // 2 :]), 1):
        file = f"{stem}-{number:05d}-of-00002.safetensors"
        _write_holes(folder / file, {key: tensors[key] for key in half})
        files |= dict.fromkeys(half, file)
    weights = {"metadata": {"total_size": 0}, "weight_map": files}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(weights))
    return ["diffusers" if is_diffusers else "transformers", name]


def _write_holes(file: Path, tensors: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    """Write a safetensors file whose tensors read as zeros and take no disk."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, (dtype, shape) in tensors.items():
        begin, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[key] = {"dtype": SAFETENSORS[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + end)


def main() -> None:
    """Publish, load and render."""
    recipe = load_recipe(sys.argv[1])
    folder = publish(recipe)
    config = load_config(
        "micro", {"generators.recipes": recipe.name, "generators.backend": "eager", "captions.source": "grammar"}
    )
    [needed] = repositories(config)
    find_timesteps_by_position()
    loaded = load_generator(recipe, "cpu", size=256)
    modules = {k: m for k, m in loaded.pipeline.components.items() if isinstance(m, torch.nn.Module)}
    # Files hold zeros: a number that is none was not in them.
    made_up = [
        f"{part}.{key}"
        for part, module in modules.items()
        for key, p in module.named_parameters()
        if p.flatten()[:64].any()
    ]
    counters = Counters()
    loaded.pipeline.to("cuda:0")
    pictures = loaded.render(["a red dog on a beach"] * 2, [0, 1])
    disk = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
    figures = {
        "lacks": needed.lacks,
        "made_up": made_up,
        "parts": {part: [str(module.dtype), str(module.device)] for part, module in modules.items()},
        "shape": pictures.shape,
        "device_gib": counters.bytes_in / GIB,
        "disk_mib": disk / 2**20,
        "files_gib": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / GIB,
        "host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
