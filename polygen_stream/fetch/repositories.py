"""The repositories that a config names, on which terms, and what of them is on this machine already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polygen_stream.assets.hub import cached, language_model
from polygen_stream.assets.layout import missing_of_language_model, missing_of_pipeline
from polygen_stream.config import RunConfig, remote_generators
from polygen_stream.generators.recipe import Recipe, load_recipe

GB = 10**9


@dataclass(frozen=True)
class Repository:
    """A repository of the hub and the files of it that a run loads. Known from recipes and tables, not from the hub."""

    name: str  # owner/name
    needed_by: str  # in words: "generator sd15", "captions.writer"
    revision: str
    download_gb: float  # 0: unknown
    license: str
    gated: bool
    non_commercial: bool
    allow: tuple[str, ...]  # patterns of the files that are loaded
    ignore: tuple[str, ...]
    index: str  # a file that only a download brings

    @property
    def pinned(self) -> bool:
        """Whether the revision is another than the branch `main`."""
        return self.revision != "main"

    @property
    def folder(self) -> Path | None:
        """Its folder in the hub's cache, complete or not."""
        found = cached(self.name, self.index, self.revision)
        return None if found is None else found.parent

    @property
    def lacks(self) -> str | None:
        """What of it is not on this machine, in words; None: everything is."""
        folder = self.folder
        if folder is None:
            return "not downloaded"
        if self.index == "model_index.json":
            left_out = {pattern.removesuffix("/*") for pattern in self.ignore if pattern.endswith("/*")}
            absent = missing_of_pipeline(folder, left_out)
        else:
            absent = missing_of_language_model(folder)
        return f"incomplete, {absent} is missing" if absent else None


def generators_on(config: RunConfig, remote: bool) -> tuple[str, ...]:
    """The generators that render on the machine where training runs, or `remote`, on those of generators.remote."""
    generators, there = config.generators, remote_generators(config)
    chosen = [name for name in generators.names if (name in there) is remote]
    return tuple(generators.recipe_of(name) for name in chosen)


def repositories(config: RunConfig, remote: bool = False) -> list[Repository]:
    """What the roles of a config load from the hub on one machine, each once. Trainer and evaluator need nothing.

    remote: on a machine of generators.remote, where generators render and nothing else runs.

    Raises:
        UserError: an unknown recipe, or one that cannot be read.
    """
    recipes = map(load_recipe, generators_on(config, remote))
    found = [_generator(recipe) for recipe in recipes if recipe.on_hub]
    if config.captions.source in ("transformers", "vllm") and not remote:
        roles: dict[str, list[str]] = {}
        for role in ("writer", "editor"):
            roles.setdefault(getattr(config.captions, role), []).append(f"captions.{role}")
        found += [_language_model(name, " and ".join(by)) for name, by in roles.items() if is_hub_id(name)]
    return found


def is_hub_id(name: str) -> bool:
    """Whether a language model is named by its repository, and not by a folder or as one of the package's."""
    return not name.startswith(("package:", "/", ".", "~")) and not Path(name).is_dir()


def _generator(recipe: Recipe) -> Repository:
    kind = f".{recipe.variant}" if recipe.variant else ""
    others = () if recipe.variant else ("*.fp16.*", "*.fp16-*", "*.bf16.*")
    return Repository(
        name=recipe.weights,
        needed_by=f"generator {recipe.name}",
        revision=recipe.revision,
        download_gb=recipe.download_gb,
        license=recipe.license,
        gated=recipe.gated,
        non_commercial=recipe.non_commercial,
        # Of the folders of the parts alone: repositories also have whole pipelines in one file, beside them.
        allow=("model_index.json", "*/*.json", "*/*.txt", "*/*.model", f"*/*{kind}.safetensors", f"*/*{kind}-*-of-*"),
        ignore=("*.non_ema*", "*.bin", "*.msgpack", "*.onnx*", *others, *(f"{part}/*" for part in recipe.without)),
        index="model_index.json",
    )


def _language_model(name: str, needed_by: str) -> Repository:
    facts = language_model(name)
    return Repository(
        name=name,
        needed_by=needed_by,
        revision=facts.revision,
        download_gb=facts.download_gb,
        license=facts.license,
        gated=facts.gated,
        non_commercial=facts.non_commercial,
        allow=("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors"),
        ignore=("*/*", "consolidated*"),  # e.g. original/: the same weights in another form
        index="config.json",
    )
