"""A generator recipe: which pipeline, which weights, and how to sample from them. One TOML file each.

Shipped recipes lie under engines/ and are given by name; a recipe of one's own is given by the path of its file, which
gives the generator its name (my_sd.toml: "my_sd").
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from polygen_stream.assets.hub import cached, download_command
from polygen_stream.assets.resources import is_recipe_file, model_path, recipe_name, recipe_path
from polygen_stream.base.errors import UserError
from polygen_stream.base.home import expand_home
from polygen_stream.base.toml_files import read_toml
from polygen_stream.base.validation import explain

OF_THE_FILE = ("name", "file")  # fields of a recipe that its file gives it, and no key in it
_ONE_IMAGE = ("prompt", "generator", "output_type", "return_dict", "num_images_per_prompt")


class TensorRtSpec(BaseModel):
    """What TensorRT and TensorRT-RTX are told beyond the graph. Other backends do not read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimization_level: int | None = Field(default=None, ge=0, le=5)  # 5: longest search; None: the library's own
    refit: bool = False  # plans whose weights can be exchanged; those of other weights are then made from them
    cuda_graphs: bool = False  # replay a call that was recorded once, instead of launching its kernels one by one
    quantize: dict[str, Literal["fp8", "int8"]] = {}  # parts whose products and convolutions compute in 8 bits
    quantized_tolerance: float = Field(default=2e-1, gt=0)  # part_tolerance of those


class EngineSpec(BaseModel):
    """What `polygen-stream build-engines` compiles of a generator, and how close to eager it has to stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[str, ...] = Field(min_length=1)  # of the pipeline; the others stay eager
    batch: tuple[int, int, int] = (1, 16, 64)  # pictures per call: fewest, usual, most
    part_tolerance: float = Field(1e-3, gt=0)  # largest difference of a part's output, relative to max(1, its values)
    bf16: tuple[str, ...] = ()  # parts that CPU backends may compute in bfloat16
    bf16_tolerance: float = Field(5e-2, gt=0)  # part_tolerance of those
    float32_attention: tuple[str, ...] = ()  # UNets whose exported graph multiplies queries and keys in float32
    picture_tolerance: float = Field(2.0, gt=0)  # expected difference of a picture, grey levels of 255; no limit
    tensorrt: TensorRtSpec = TensorRtSpec()

    @model_validator(mode="after")
    def _quantizes_what_it_compiles(self) -> EngineSpec:
        unknown = set(self.tensorrt.quantize) - set(self.parts)
        if unknown:
            raise ValueError(
                f"engine.tensorrt.quantize names {', '.join(sorted(unknown))}, which engine.parts does not"
            )
        return self


class SchedulerSpec(BaseModel):
    """A sampler in place of the one that the weights name; what it is not told here it takes from theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(alias="class")  # diffusers class
    arguments: dict[str, Any] = {}


Dtype = Literal["float32", "float16", "bfloat16"]


class Recipe(BaseModel):
    """One generator. `sampling` goes to the pipeline call as it stands.

    `weights` is "package:NAME" for a model shipped with polygen-stream, a local folder (absolute once the recipe has
    been read; in the file relative to it), or a hub id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    file: Path | None = Field(default=None, exclude=True)  # of a recipe of the user's own
    pipeline: str  # diffusers class
    weights: str
    revision: str = "main"  # of a hub id: a commit; "main" is what was last uploaded
    download_gb: float = Field(0.0, ge=0)  # of a hub id, in 10^9 bytes, about
    parameters: dict[str, float] = {}  # millions, by part; what memory is planned with
    variant: str | None = None  # of the weight files, e.g. "fp16"
    license: str
    gated: bool = False  # the hub wants an account that has agreed to its terms
    non_commercial: bool = False
    width: int = Field(ge=8)
    height: int = Field(ge=8)
    prompt_tokens: int | None = Field(None, ge=1)  # a longer caption loses its end; None: the tokenizer says
    dtype: Dtype
    dtypes: dict[str, Dtype] = {}  # of parts that compute in another one
    without: tuple[str, ...] = ()  # parts of the weights that are not loaded
    scheduler: SchedulerSpec | None = None  # None: the weights' own
    sampling: dict[str, Any]
    engine: EngineSpec | None = None  # None: the generator always runs eager

    @model_validator(mode="after")
    def _quantizes_what_a_cpu_can_run(self) -> Recipe:
        for part in self.engine.tensorrt.quantize if self.engine else ():
            if self.dtype_of(part) == "bfloat16":
                raise ValueError(f"engine.tensorrt.quantize names {part}, which is bfloat16: quantised are the others")
        return self

    @model_validator(mode="after")
    def _leaves_the_renderer_its_arguments(self) -> Recipe:
        for name in self.sampling:
            if name in ("width", "height"):
                raise ValueError(f"sampling.{name}: write {name} above the tables, where it also sets the image's size")
            if name in _ONE_IMAGE:
                raise ValueError(f"sampling.{name} is set by the renderer, one image for each seed: leave it out")
        return self

    @property
    def compiled(self) -> EngineSpec:
        """The [engine] table.

        Raises:
            UserError: The recipe has none, so its generator always runs eager.
        """
        if self.engine is None:
            raise UserError(f"{self.origin} has no [engine] table: nothing to compile")
        return self.engine

    @property
    def reference(self) -> str:
        """The recipe as a command line names it from any directory: its name, or the path of its file."""
        return self.name if self.file is None else str(self.file)

    @property
    def origin(self) -> str:
        """The recipe's file, for messages."""
        return f"engines/{self.name}.toml" if self.file is None else str(self.file)

    @property
    def source(self) -> str:
        """What `from_pretrained` gets."""
        return model_path(self.weights)

    @property
    def on_hub(self) -> bool:
        """Whether the weights are a repository of the model hub, and not a folder of this machine."""
        return not self.weights.startswith("package:") and not os.path.isabs(self.weights)

    @property
    def folder(self) -> Path | None:
        """Where the weights lie on this machine; None if they have not been downloaded."""
        folder = Path(self.source)
        if not folder.is_dir() and self.on_hub:
            # Not snapshot_download: it is content with an index of a repository whose files are missing.
            found = cached(self.weights, "model_index.json", self.revision)
            folder = folder if found is None else found.parent
        return folder if (folder / "model_index.json").is_file() else None

    @property
    def download(self) -> str:
        """The command that downloads the weights of a hub id."""
        return download_command(self.weights, self.revision)

    def dtype_of(self, part: str) -> Dtype:
        """Return the type that a part of the pipeline computes in."""
        return self.dtypes.get(part, self.dtype)

    def bytes_of(self, part: str) -> float:
        """Memory of a part's weights in the type that it computes in; 0 where `parameters` does not know it."""
        return self.parameters.get(part, 0.0) * 1e6 * {"float32": 4, "float16": 2, "bfloat16": 2}[self.dtype_of(part)]

    def check_size(self, size: int) -> None:
        """Whether pictures of side `size` can be made of this generator's.

        Raises:
            UserError: they cannot.
        """
        if self.width != self.height or size > self.width:
            raise UserError(
                f"{self.origin} renders {self.width}x{self.height}, and {size}x{size} is asked for: "
                "pictures are made smaller, never larger or of another shape; lower ring.image_size"
            )


def load_recipe(recipe: str) -> Recipe:
    """Read a recipe: the shipped engines/<name>.toml of a name, or the TOML file of a path.

    Raises:
        UserError: Unknown name, no such file, or anything `read_recipe` raises.
    """
    return read_recipe(recipe_path(recipe), recipe_name(recipe), own=is_recipe_file(recipe))


def read_recipe(path: Path, name: str, own: bool = False) -> Recipe:
    """Read the recipe in a file.

    Args:
        path: The TOML file. Weights that are given by a relative path lie beside it.
        name: What the generator is called.
        own: Whether the recipe is the user's own, and so named by its path in messages and commands.

    Raises:
        UserError: Invalid TOML, unknown or missing key; one line naming file and key.
    """
    values = read_toml(path, "recipe")
    for key in OF_THE_FILE:
        if key in values:
            raise UserError(f"{path}: unknown key {key}: a generator has the name of its file")
    if isinstance(values.get("weights"), str):
        values["weights"] = _weights_beside(path, values["weights"])
    try:
        return Recipe.model_validate({**values, "name": name, "file": path.absolute() if own else None})
    except ValidationError as problem:
        raise UserError(f"{path}: {explain(problem, Recipe, OF_THE_FILE)}") from None


def _weights_beside(path: Path, weights: str) -> str:
    """Return weights as they are found from any directory: a folder beside the recipe by its absolute path.

    Like a hub id reads "weights/sd", so it is a folder only if there is one; "./weights" always is.
    """
    if weights.startswith("package:"):
        return weights
    folder = path.absolute().parent / expand_home(weights)
    is_path = weights.startswith((".", "/", "~")) or folder.is_dir()
    return os.path.normpath(folder) if is_path else weights
