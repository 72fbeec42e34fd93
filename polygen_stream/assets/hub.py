"""The model hub: which revision of a repository is meant, and where the hub's cache has it. Never goes online."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

from polygen_stream.base.errors import UserError
from polygen_stream.base.home import why_no_home

_LANGUAGE_MODELS = Path(__file__).with_name("language_models.toml")


@dataclass(frozen=True)
class LanguageModelSpec:
    """What is known of a language model before it is downloaded; 0 and "unconfirmed" where nothing is."""

    revision: str = "main"  # a commit; "main" is what was last uploaded
    download_gb: float = 0.0  # 10^9 bytes
    parameters: float = 0.0  # millions
    layers: int = 0
    kv_heads: int = 0
    head_size: int = 0
    license: str = "unconfirmed"
    gated: bool = False  # the hub wants an account that has agreed to its terms
    non_commercial: bool = False


@cache
def _known() -> dict[str, LanguageModelSpec]:
    table = tomllib.loads(_LANGUAGE_MODELS.read_text(encoding="utf-8"))
    return {name: LanguageModelSpec(**facts) for name, facts in table.items()}


def language_model(name: str) -> LanguageModelSpec:
    """The facts of a hub id; of anything else those of nothing in particular."""
    return _known().get(name, LanguageModelSpec())


def hub_cache() -> Path:
    """Return the folder of the hub's cache, which need not exist yet: HF_HUB_CACHE, or "hub" in HF_HOME.

    Raises:
        UserError: It would be in the home folder, and there is none.
    """
    folder = Path(constants.HF_HUB_CACHE)
    if folder.parts[:1] == (
        "~",
    ):  # the library leaves it where it cannot replace it, and writes into a folder called so
        raise UserError(f"{why_no_home()}: set HF_HOME to a folder that can be written")
    return folder


def cached(repository: str, file: str, revision: str) -> Path | None:
    """A file of a repository in the hub's cache, at that revision and no other; None: it is not there."""
    found = try_to_load_from_cache(repository, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def download_command(repository: str, revision: str) -> str:
    """What to type to get a repository as it is meant."""
    return f"hf download {repository}{'' if revision == 'main' else f' --revision {revision}'}"
