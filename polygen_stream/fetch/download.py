"""Downloading: terms and disk first, then one repository after the other, under one lock, each file once."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout
from huggingface_hub import constants, get_session, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from polygen_stream.assets.hub import hub_cache
from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.files import nearest_existing
from polygen_stream.base.proxies import bypass_loopback, check_proxies, is_address, through
from polygen_stream.base.secrets import redact, secret
from polygen_stream.fetch.repositories import GB, Repository

LOCK = ".polygen-stream-fetch.lock"
# What the hub's HTTP library raises, of which there are two (httpx, httpx2): the first base of the hub's own error.
HTTPError = cast(type[Exception], HfHubHTTPError.__bases__[0])


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
    hub = hub_cache()
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
        UserError: offline mode, a proxy, a token or a folder that cannot be used; no account or no agreement to the
            terms; no such repository or revision.
        PolygenError: no network, or the hub answers with an error.
    """
    _check_surroundings([each.name for each in needed if each.lacks])
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


def _check_surroundings(names: Sequence[str]) -> None:
    """Refuse what the environment has that no download can go on with; nothing, if none is needed.

    Raises:
        UserError: Offline mode, an address, a proxy or a token that cannot be used; names the variable.
    """
    if not names:
        return
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if constants.HF_HUB_OFFLINE and os.environ.get(variable):
            raise UserError(f"{', '.join(names)} cannot be downloaded with {variable}={os.environ[variable]}: unset it")
    if not is_address(constants.ENDPOINT):
        raise UserError(f"HF_ENDPOINT = {redact(constants.ENDPOINT)!r} is no address: write https://HOST, or unset it")
    bypass_loopback()
    check_proxies(constants.ENDPOINT)
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        secret(variable)


def _reach_hub() -> None:
    """The library would try for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except HTTPError as problem:
        raise _no_answer(problem) from None


def _no_answer(problem: Exception) -> PolygenError:
    return PolygenError(
        f"no answer from {redact(constants.ENDPOINT)}{through(constants.ENDPOINT)} "
        f"({type(problem.__cause__ or problem).__name__}): check the network (HTTPS_PROXY, HF_ENDPOINT) and run it "
        "again: what was downloaded is kept"
    )


def _download(repository: Repository) -> None:
    name, page = repository.name, f"{redact(constants.ENDPOINT)}/{repository.name}"
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
    except HfHubHTTPError as problem:
        said = next(iter(redact(str(problem)).splitlines()), type(problem).__name__)
        raise PolygenError(f"{name}: {said}: run it again, what was downloaded is kept") from None
    except (LocalEntryNotFoundError, HTTPError) as problem:
        raise _no_answer(problem) from None
    except OSError as problem:
        raise _not_written(hub_cache(), problem) from None


def _not_written(hub: Path, problem: OSError) -> PolygenError:
    why = problem.strerror or redact(str(problem))
    if problem.errno == errno.ENOSPC:
        return PolygenError(f"{hub} is full: free some space and run it again, what was downloaded is kept")
    return UserError(f"{hub} cannot be written ({why}): set HF_HOME to a folder of yours")


@contextmanager
def _lock(say: Callable[[str], None]) -> Iterator[None]:
    hub = hub_cache()
    lock = FileLock(hub / LOCK)
    try:
        hub.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another fetch is at work in {hub}: waiting for it")
        lock.acquire()
    except OSError as problem:
        raise _not_written(hub, problem) from None
    try:
        yield
    finally:
        lock.release()


def _disk(folder: Path) -> int:
    return os.stat(nearest_existing(folder)).st_dev
