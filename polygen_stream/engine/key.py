"""Everything that decides what an engine computes and where it runs: two engines of one key are interchangeable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.engine.architecture import random_weights_name
from polygen_stream.engine.backends.base import Backend, installed_version, package_version
from polygen_stream.generators.recipe import EngineSpec, Recipe

OPSET = 20  # of the exported ONNX graphs
FORMAT = "4"  # of the cache's files and of what the parts export; raise it when either changes


@dataclass(frozen=True)
class EngineKey:
    """Key of one generator's engines under one backend. Every field is compared before anything is loaded."""

    generator: str  # recipe name
    backend: str
    format: str
    recipe: str  # hash
    weights: str  # hash, or "random-" and the hash of the architecture
    target: str  # processor or GPU
    backend_version: str
    torch: str  # from here on: what exports
    diffusers: str
    transformers: str
    onnx: str
    onnxscript: str
    opset: str
    flags: str

    @property
    def digest(self) -> str:
        """20 hexadecimal digits."""
        return _sha256(json.dumps(asdict(self), sort_keys=True).encode())[:20]

    def differences(self, other: EngineKey) -> list[str]:
        """The fields that differ, in words: "weights 12ab -> 34cd"."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return [f"{name} {mine} -> {theirs}" for name, mine, theirs in pairs if mine != theirs]


def engine_key(recipe: Recipe, backend_name: str, backend: Backend, random_weights: bool = False) -> EngineKey:
    """Return the key of the engines that this recipe, these weights and this machine need. Imports no heavy library.

    Args:
        recipe: The generator's recipe.
        backend_name: As in `generators.backend`.
        backend: The backend of that name, made for the target.
        random_weights: Of engines without real weights. Renderers never ask for such a key.

    Raises:
        UserError: The recipe compiles nothing, its weights are missing, or the backend is not installed.
    """
    return EngineKey(
        generator=recipe.name,
        backend=backend_name,
        format=FORMAT,
        recipe=recipe_hash(recipe),
        weights=random_weights_name(recipe) if random_weights else _weights(recipe),
        target=backend.target(),
        backend_version=installed_version(backend),
        torch=package_version("torch"),
        diffusers=package_version("diffusers"),
        transformers=package_version("transformers"),
        onnx=package_version("onnx"),
        onnxscript=package_version("onnxscript"),
        opset=str(OPSET),
        flags=_flags(recipe.compiled, backend),
    )


def _flags(spec: EngineSpec, backend: Backend) -> str:
    if not (backend.quantizes and spec.tensorrt.quantize):
        return backend.flags()
    return f"{backend.flags()}, quantized by ModelOpt {package_version('nvidia-modelopt')}"


def _weights(recipe: Recipe) -> str:
    if recipe.folder is None and recipe.on_hub:
        raise UserError(
            f"generator {recipe.name}: its weights are not on this machine: {recipe.download}; or build "
            "with --random-weights, to see whether everything compiles"
        )
    return weights_hash(recipe.folder or Path(recipe.source), recipe.compiled.parts)


def recipe_hash(recipe: Recipe) -> str:
    """Of everything in the recipe but its terms of use, where its weights lie (the content counts), how plans run."""
    known = ("license", "gated", "non_commercial", "weights", "revision", "download_gb", "parameters")
    left_out = dict.fromkeys(known, True)
    content = recipe.model_dump(mode="json", exclude=left_out | {"engine": {"tensorrt": {"cuda_graphs"}}})
    return _sha256(json.dumps(content, sort_keys=True).encode())[:16]


def weights_hash(source: Path, parts: Sequence[str]) -> str:
    """Of all configuration and weight files of the named parts in a pipeline folder.

    Raises:
        UserError: a part has no folder there.
    """
    digest = hashlib.sha256()
    for part in sorted(parts):
        if not (source / part).is_dir():
            raise UserError(f"no weights of {part} in {source}: download the generator first, or fix engine.parts")
        for path in sorted((source / part).rglob("*")):
            if path.suffix in (".json", ".safetensors"):
                digest.update(f"{path.relative_to(source).as_posix()} {file_hash(path)}\n".encode())
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
