"""`polygen-stream fetch`: what a config needs from the hub as a table, and the download."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console

from polygen_stream.assets.hub import hub_cache
from polygen_stream.config import RunConfig
from polygen_stream.engine.cache import default_cache
from polygen_stream.fetch.download import check_disk, check_terms, download
from polygen_stream.fetch.repositories import GB, Repository, generators_on, repositories
from polygen_stream.generators.recipe import load_recipe


def show(config: RunConfig, console: Console, remote: bool = False) -> None:
    """Every repository with revision, size, licence, gate and state; the sums; the command that downloads them."""
    needed = repositories(config, remote)
    if not needed:
        console.print(f"{config.name}: everything it needs comes with the package")
        return
    rows = [("repository", "revision", "GB", "licence", "gate", "state", "needed by"), *map(_row, needed)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        console.print("  ".join(cells).rstrip(), soft_wrap=True, markup=False)
    weights, engines = sum(each.download_gb for each in needed if each.lacks), engines_gb(config, remote)
    console.print(f"to download: about {weights:.1f} GB; ONNX graphs and engines: about {engines:.1f} GB more")
    unknown = [each.name for each in needed if not each.download_gb]
    if unknown:
        console.print(f"size and licence unknown: {', '.join(unknown)}", soft_wrap=True)
    unpinned = [each.name for each in needed if not each.pinned]
    if unpinned:
        console.print(f"unpinned, taken as they are on the hub today: {', '.join(unpinned)}", soft_wrap=True)
    for each in needed:
        if each.gated and each.lacks:
            console.print(f"gated: agree to the terms at https://huggingface.co/{each.name}", soft_wrap=True)
    refused = sorted({each.license for each in needed if each.non_commercial})
    if refused:
        options = " ".join(f"--accept-license {name}" for name in refused)
        console.print(f"no commercial use: {', '.join(refused)}; fetch wants {options}", soft_wrap=True)


def _row(each: Repository) -> tuple[str, ...]:
    size = f"{each.download_gb:g}" if each.download_gb else "?"
    revision = each.revision[:12] if each.pinned else "unpinned"
    return (
        each.name, revision, size, each.license, "gated" if each.gated else "open", each.lacks or "here",
        each.needed_by,
    )  # fmt: skip


def fetch(config: RunConfig, accepted: Collection[str], console: Console, remote: bool = False) -> None:
    """Download what a config needs on this machine, one of generators.remote if `remote`, and is not here.

    Raises:
        UserError: a licence that was not accepted, too little disk, or what `download` raises.
    """
    needed = repositories(config, remote)
    check_terms(needed, accepted)
    engines = engines_gb(config, remote)
    check_disk(needed, engines, default_cache() if engines else hub_cache())
    download(needed, lambda line: console.print(line, soft_wrap=True, markup=False))


def command_of(config_words: Sequence[str], accepted: Collection[str]) -> tuple[str, ...]:
    """The words after `polygen-stream` that fetch what a config with its overrides needs."""
    return ("fetch", *config_words, *(word for name in accepted for word in ("--accept-license", name)))


def engines_gb(config: RunConfig, remote: bool = False) -> float:
    """Return how much building the config's engines writes, in units of 10^9 bytes.

    Of every compiled part that is a graph and a plan, each as large as the part's weights (docs/full-size.md).

    Args:
        config: The run's config.
        remote: Count the generators on the machines of generators.remote, not those where training runs.
    """
    if config.generators.backend in ("eager", "torch-compile"):
        return 0.0
    recipes = map(load_recipe, generators_on(config, remote))
    compiled = [(recipe, part) for recipe in recipes if recipe.engine for part in recipe.engine.parts]
    return sum(2 * recipe.bytes_of(part) for recipe, part in compiled) / GB
