"""The shard recorder: during a run, writes the images of every caption into shards as soon as they are complete.

It copies out of the ring and pins nothing there, so no other process ever waits for it. If it falls behind, captions
are evicted before it gets to them: they are missing from the shards and counted, in RUN/recorder.json and in the
summary.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import write_json
from polygen_stream.export.shards import ShardSample, ShardWriter
from polygen_stream.ring.follow import CompleteGroup, Follower
from polygen_stream.roles.role import RoleContext, run_role

MAX_GROUPS = 32  # copied at a time
POLL_S = 0.05
STATE_EVERY_S = 1.0


def main(context: RoleContext) -> None:
    """Record until the process is asked to stop, and then what is complete by then.

    Raises:
        UserError: the folder cannot be used, or another run writes into it.
    """
    config = context.config
    folder = Path(config.launch.record_shards)
    context.ring.heartbeat("reading the shards that are there")
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        shards = ShardWriter(folder, config.generators.names, config.launch.shard_images)
        # Before the first shard: the state says which run the folder belongs to.
        _write_state(context.run_folder.recorder_state, folder, shards)
        _record(context, folder, shards)
        shards.publish()
        _write_state(context.run_folder.recorder_state, folder, shards)
    finally:
        os.close(lock)


def _record(context: RoleContext, folder: Path, shards: ShardWriter) -> None:
    """Write complete groups until the process is asked to stop and none is left."""
    ring, follower = context.ring, Follower(context.ring)
    written_at, written_shards = time.monotonic(), shards.shards  # of the last state
    while True:
        stopping, start = context.stopping, time.monotonic()  # in this order: no group gets complete after the stop
        groups = follower.next(MAX_GROUPS)
        for group in groups or ():
            if group.task_id not in shards.tasks:  # else it was written before the run was resumed
                shards.write(_samples(group), group.images)
        if start - written_at > STATE_EVERY_S or shards.shards > written_shards:
            _write_state(context.run_folder.recorder_state, folder, shards)
            written_at, written_shards = start, shards.shards
        doing = f"{len(shards.tasks)} captions, {shards.samples} images, {shards.shards} shards"
        if groups is not None:
            ring.heartbeat(doing, busy_s=time.monotonic() - start)
            continue
        if stopping:
            return
        time.sleep(POLL_S)
        ring.heartbeat(doing, waited_s=time.monotonic() - start)


def _samples(group: CompleteGroup) -> list[ShardSample]:
    """Describe the images of a group, in their order."""
    columns = zip(group.members, group.negative.tolist(), group.generators, group.seeds, strict=True)
    samples = []
    for member, negative, generator, seed in columns:
        text = group.negative_caption if negative else group.caption
        assert text is not None, f"task {group.task_id} has an image of a negative caption, but none"
        samples.append(ShardSample(group.task_id, member, negative, text, generator, seed))
    return samples


def _write_state(file: Path, folder: Path, shards: ShardWriter) -> None:
    state = {
        "folder": str(folder.absolute()),
        "captions": len(shards.tasks),
        "pictures": shards.samples,
        "shards": shards.shards,
    }
    write_json(file, state)


def _lock(folder: Path) -> int:
    """Keep a second run out of the folder until this process ends in any way."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"another run writes its shards into {folder}: choose another --record-shards") from None
    return descriptor


if __name__ == "__main__":
    run_role(main, "recorder")
