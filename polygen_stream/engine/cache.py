"""The engine cache: one folder per key, complete or absent, never half.

    engines/<generator>/<backend>-<digest>/   manifest.json, one engine file per part, pictures.png
    staging/                                  what is being built; nothing is ever loaded from here
    locks/                                    one file per key: two builds of one key make one engine
    kept/                                     what makes later builds faster (TensorRT's timings); safe to remove
    refused/                                  pictures of builds that were not published; safe to remove

A build works in a staging folder and renames it into place as its last act, so that killing it at any moment leaves
either no entry or a whole one. Whoever loads an entry compares its key first and the hash of each file second.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.files import flush
from polygen_stream.base.home import user_cache
from polygen_stream.engine.key import EngineKey, file_hash
from polygen_stream.engine.profile import Profile

VARIABLE = "POLYGEN_STREAM_CACHE"
MANIFEST = "manifest.json"
LOOK = "pictures.png"  # what eager renders, and below it what the engines do


class CacheError(PolygenError):
    """An entry that cannot be trusted: damaged, changed after it was built, or of another key."""


@dataclass(frozen=True)
class CachedEngine:
    """A published engine set."""

    folder: Path
    key: EngineKey
    parts: Mapping[str, Mapping[str, Any]]  # part -> engine (file name), files (name -> sha256, bytes), profile
    report: Mapping[str, Any]  # seconds, peak memory, parity, differences that a person accepted

    @property
    def nbytes(self) -> int:
        """Size of all engine files, in bytes."""
        return sum(file["bytes"] for part in self.parts.values() for file in part["files"].values())

    def engine(self, part: str) -> Path:
        """The file that the backend opens."""
        return self.folder / self.parts[part]["engine"]

    def profile(self, part: str) -> Profile:
        """Return the shapes and types that a part was built for."""
        return Profile.read(self.parts[part]["profile"])

    @property
    def recipe(self) -> str:
        """The recipe that the engines were built of, a name or the path of a file."""
        return self.report.get("recipe", self.key.generator)

    @property
    def rebuild_command(self) -> str:
        """What to type to build it again."""
        return f"rebuild it: polygen-stream build-engines {self.recipe} --backend {self.key.backend} --force"

    def verify(self) -> None:
        """Compare every engine file with the manifest.

        Raises:
            CacheError: a file is missing or its content is not what was built.
        """
        files = {name: file["sha256"] for part in self.parts.values() for name, file in part["files"].items()}
        for name, built in files.items():
            path = self.folder / name
            if not path.is_file():
                raise CacheError(f"engine file {path} is missing; {self.rebuild_command}")
            found = file_hash(path)
            if found != built:
                raise CacheError(
                    f"engine file {path} has SHA-256 {found[:16]}, built was {built[:16]}: "
                    f"it was changed after the build; {self.rebuild_command}"
                )


def default_cache() -> Path:
    """POLYGEN_STREAM_CACHE, else polygen-stream in the user's cache folder.

    Raises:
        UserError: There is neither.
    """
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    return user_cache(VARIABLE) / "polygen-stream"


class EngineCache:
    """Engines under one folder, which need not exist yet."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_cache() if root is None else root

    def folder(self, key: EngineKey) -> Path:
        """Return the folder of a key's entry, whether it exists or not."""
        return self.root / "engines" / key.generator / f"{key.backend.replace(':', '.')}-{key.digest}"

    def find(self, key: EngineKey) -> CachedEngine | None:
        """The entry of exactly this key, or None. Its files are not read: see `Entry.verify`."""
        entry = _read_entry(self.folder(key))
        return entry if entry is not None and entry.key == key else None

    @property
    def kept(self) -> Path:
        """Folder of what makes later builds faster."""
        return self.root / "kept"

    def keep_refused(self, key: EngineKey, look: Path) -> Path:
        """Move the pictures of a build that is not published out of its staging folder. Returns where they are."""
        place = self.root / "refused" / f"{key.generator.replace('/', '-')}-{key.digest}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        return look.rename(place)

    def with_other_weights(self, key: EngineKey) -> CachedEngine | None:
        """An intact entry that differs from a key in nothing but its weights."""
        for entry in self.entries():
            if entry.key != key and replace(entry.key, weights=key.weights) == key:
                try:
                    entry.verify()
                except CacheError as problem:
                    logging.warning("%s", problem)
                    continue
                return entry
        return None

    def explain_miss(self, key: EngineKey, recipe: str | None = None) -> str:
        """Say why there is no entry for a key, naming the fields in which the most similar one differs.

        Args:
            key: The key that was looked for.
            recipe: The recipe as a command names it, if not by the generator's name.
        """
        others = [e for e in self.entries() if (e.key.generator, e.key.backend) == (key.generator, key.backend)]
        build = f"build it: polygen-stream build-engines {recipe or key.generator} --backend {key.backend}"
        if not others:
            return f"no {key.backend} engine of {key.generator} in {self.root}; {build}"
        nearest = min((entry.key.differences(key) for entry in others), key=len)
        return f"the {key.backend} engine of {key.generator} was built for other {', '.join(nearest)}; {build}"

    def entries(self) -> list[CachedEngine]:
        """All entries, by generator, backend and age."""
        manifests = sorted(self.root.glob(f"engines/**/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
        entries = [entry for entry in (_read_entry(path.parent) for path in manifests) if entry is not None]
        return sorted(entries, key=lambda entry: (entry.key.generator, entry.key.backend))

    @contextmanager
    def building(self, key: EngineKey) -> Iterator[Path]:
        """Hold the key's lock and a fresh staging folder; the folder is gone afterwards unless it was published."""
        with self.workspace(key.digest) as folder:
            yield folder

    @contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """A folder of one's own in staging/, and the lock of that name that tells `collect` it is in use."""
        locks, staging = self.root / "locks", self.root / "staging"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            staging.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise UserError(
                f"the engine cache {self.root} cannot be written ({problem.strerror}): set {VARIABLE} to a folder that "
                "can"
            ) from None
        # The operating system drops the lock when its holder dies, however that happens.
        with FileLock(locks / f"{name}.lock"):
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=staging))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(
        self, key: EngineKey, staging: Path, profiles: Mapping[str, Profile], suffix: str, report: Mapping[str, Any]
    ) -> CachedEngine:
        """Make a staging folder of `building` the entry of its key, in place of an older one.

        Args:
            key: The key that `building` was called with.
            staging: The folder that `building` gave, with the engine files in it.
            profiles: By part. The files of a part are called after it, up to the first dot.
            suffix: Of the file of a part that the backend opens.
            report: Seconds, memory and parity of the build, as JSON can hold them.

        Returns:
            The published entry.
        """
        parts = {
            part: {"engine": f"{part}{suffix}", "files": _inventory(staging, part), "profile": asdict(profile)}
            for part, profile in profiles.items()
        }
        manifest = {"key": asdict(key), "parts": parts, "report": dict(report)}
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        for path in staging.iterdir():
            flush(path)
        staging.chmod(0o755)  # a temporary folder is its owner's alone; a cache may be shared
        place = self.folder(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():  # a folder cannot replace a full one: set it aside, where `collect` removes it
            place.rename(staging.with_name(f"{staging.name}-replaced"))
        staging.rename(place)
        shutil.rmtree(staging.with_name(f"{staging.name}-replaced"), ignore_errors=True)
        return CachedEngine(place, key, parts, dict(report))

    def collect(self, keep: set[str]) -> list[Path]:
        """Remove abandoned staging folders and every entry whose digest is not in `keep`; say what was removed."""
        removed = []
        for folder in sorted((self.root / "staging").glob("*")):
            digest = folder.name.partition("-")[0]
            if self._idle(digest):
                removed.append(folder)
        removed += [entry.folder for entry in self.entries() if entry.key.digest not in keep]
        for folder in removed:
            (folder / MANIFEST).unlink(missing_ok=True)  # first, so that a half-removed entry is no entry
            shutil.rmtree(folder, ignore_errors=True)
        return removed

    def _idle(self, digest: str) -> bool:
        lock = FileLock(self.root / "locks" / f"{digest}.lock", blocking=False)
        try:
            with lock:
                return True
        except TimeoutError:
            return False


def _read_entry(folder: Path) -> CachedEngine | None:
    """None for a folder without a readable manifest, and for one of another format."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return CachedEngine(folder, EngineKey(**manifest["key"]), manifest["parts"], manifest["report"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _inventory(folder: Path, part: str) -> dict[str, dict[str, Any]]:
    paths = sorted(folder.glob(f"{part}.*"))
    return {path.name: {"sha256": file_hash(path), "bytes": path.stat().st_size} for path in paths}
