"""The published architecture of a generator's parts: class and configuration, without weights.

Of generators whose weights are on this machine it is read from their own configuration files; of the full-size ones it
also comes with polygen-stream, one TOML file per recipe, so that their engines can be built with random weights.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.generators.recipe import Recipe

SHIPPED = Path(__file__).resolve().parent / "architectures"


def architecture(recipe: Recipe, part: str) -> tuple[str, dict[str, Any]]:
    """Class name and configuration of a part.

    Raises:
        UserError: neither the weights nor polygen-stream have a configuration of it.
    """
    if recipe.folder is not None and (recipe.folder / part / "config.json").is_file():
        config = json.loads((recipe.folder / part / "config.json").read_text(encoding="utf-8"))
        name = config["_class_name"] if "_class_name" in config else config["architectures"][0]
        return name, config
    shipped = SHIPPED / f"{recipe.name}.toml"
    known = recipe.file is None and shipped.is_file()  # a recipe of one's own may only be called like a shipped one
    parts = tomllib.loads(shipped.read_text(encoding="utf-8")) if known else {}
    if part not in parts:
        describe = f", or describe it in {shipped}" if recipe.file is None else ""
        raise UserError(
            f"generator {recipe.name}: the architecture of {part} is not known here: download the generator first "
            f"({recipe.download}){describe}"
        )
    config = dict(parts[part])
    return config.pop("class"), config


def random_weights_name(recipe: Recipe) -> str:
    """What stands in an engine's key in the place of a weight hash; no hash of real weights looks like it."""
    known = {part: architecture(recipe, part) for part in sorted(recipe.compiled.parts)}
    return f"random-{hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]}"


def latent_factor(recipe: Recipe) -> int:
    """Pixels per latent, along one side."""
    _, vae = architecture(recipe, "vae")
    return 2 ** (len(vae.get("block_out_channels") or vae["decoder_block_out_channels"]) - 1)


def text_tokens(recipe: Recipe) -> int:
    """Tokens of a prompt as the text encoder gets it, padding included."""
    if recipe.prompt_tokens is not None:
        return recipe.prompt_tokens
    if "max_sequence_length" in recipe.sampling:
        return recipe.sampling["max_sequence_length"]
    return architecture(recipe, "text_encoder")[1]["max_position_embeddings"]
