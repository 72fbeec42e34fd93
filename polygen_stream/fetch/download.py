"""Downloading: terms and disk first, then one repository after the other, under one lock, each file once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import constants, get_session, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.files import nearest_existing
from polygen_stream.fetch.repositories import GB, Repository

LOCK = ".polygen-stream-fetch.lock"


def check_terms(needed: Sequence[Repository], accepted: Collection[str]) -> None:
    """Refuses weights that forbid commercial use, unless their licence was accepted by name.

    Raises:
        UserError: one was not, or a licence was accepted that no repository has.
    """
    known = {repository.license for repository in needed}
    for name in accepted:
        if name not in known:
            raise UserError(f"--accept-license {name}: no repository of this config has it, but {', '.join(known)}")
    refused = [each for each in needed if each.non_commercial and each.license not in accepted]
    if refused:
        options = " ".join(sorted({f"--accept-license {each.license}" for each in refused}))
        names = ", ".join(f"{each.name} ({each.license})" for each in refused)
        raise UserError(
            f"{names} may not be used commercially: read https://huggingface.co/{refused[0].name}, then add {options}, "
            "or leave the generator out of generators.recipes"
        )


def check_disk(needed: Sequence[Repository], engines_gb: float, engine_cache: Path) -> None:
    """Refuse a download that will not fit, engines to be built from it included.

    Args:
        needed: Repositories of the config; those that are complete here need no space.
        engines_gb: 10^9 bytes of ONNX graphs and plans, in `engine_cache`.
        engine_cache: Folder of the engine cache, which need not exist yet.

    Raises:
        UserError: Too little space on a disk; both sums are named.
    """
    hub = Path(constants.HF_HUB_CACHE)
    download = sum(each.download_gb for each in needed if each.lacks)
    if _disk(hub) == _disk(engine_cache):
        demands = [(hub, download + engines_gb, f"{download:.1f} GB of weights and {engines_gb:.1f} GB of engines")]
    else:
        demands = [(hub, download, "weights"), (engine_cache, engines_gb, "ONNX graphs and engines")]
    for folder, gb, what in demands:
        free = shutil.disk_usage(nearest_existing(folder)).free / GB
        if gb > free:
            raise UserError(
                f"{folder} has {free:.1f} GB free, and {what} need {gb:.1f} GB: free some, or set "
                "HF_HOME (weights) and POLYGEN_STREAM_CACHE (engines) to folders on another disk"
            )


def download(needed: Sequence[Repository], say: Callable[[str], None]) -> None:
    """Downloads what is not here. Of an interrupted download the files that arrived are kept.

    HF_HOME says where to, HF_TOKEN who asks, HF_ENDPOINT whom.

    Raises:
        UserError: no account or no agreement to the terms, no such repository or revision.
        PolygenError: no network, or the hub answers with an error.
    """
    with _lock(say):
        if any(each.lacks for each in needed):
            _reach_hub()
        for each in needed:
            if not each.lacks:  # perhaps since another process held the lock
                say(f"{each.name}: here")
                continue
            say(f"{each.name}: downloading about {each.download_gb:g} GB")
            _download(each)
            if lacks := each.lacks:
                raise PolygenError(f"{each.name} was downloaded and is still {lacks}: the repository has changed")


def _reach_hub() -> None:
    """The library would try for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except HTTPError as problem:
        raise _no_answer(problem) from None


def _no_answer(problem: Exception) -> PolygenError:
    return PolygenError(
        f"no answer from {constants.ENDPOINT} ({type(problem.__cause__ or problem).__name__}): check the network "
        "(HTTPS_PROXY, HF_ENDPOINT) and run it again: what was downloaded is kept"
    )


def _download(repository: Repository) -> None:
    name, page = repository.name, f"{constants.ENDPOINT}/{repository.name}"
    try:
        snapshot_download(
            name,
            revision=repository.revision,
            allow_patterns=list(repository.allow),
            ignore_patterns=list(repository.ignore),
        )
    except GatedRepoError:
        token = "its account has not agreed to the terms" if get_token() else "there is no token"
        raise UserError(
            f"{name} is gated, and {token}: agree to them at {page}, then hf auth login (or set HF_TOKEN)"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{name} has no revision {repository.revision}: its owner removed it") from None
    except RepositoryNotFoundError:  # the hub's answer for a private one too
        token = "" if get_token() else ", or wants a token (HF_TOKEN)"
        raise UserError(f"{page} does not exist{token}") from None
    except OfflineModeIsEnabled:
        raise UserError(f"{name} cannot be downloaded with HF_HUB_OFFLINE=1: unset it") from None
    except HfHubHTTPError as problem:
        raise PolygenError(
            f"{name}: {str(problem).splitlines()[0]}: run it again, what was downloaded is kept"
        ) from None
    except (LocalEntryNotFoundError, HTTPError) as problem:
        raise _no_answer(problem) from None


@contextmanager
def _lock(say: Callable[[str], None]) -> Iterator[None]:
    hub = Path(constants.HF_HUB_CACHE)
    hub.mkdir(parents=True, exist_ok=True)
    lock = FileLock(hub / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another fetch is at work in {hub}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _disk(folder: Path) -> int:
    return os.stat(nearest_existing(folder)).st_dev
