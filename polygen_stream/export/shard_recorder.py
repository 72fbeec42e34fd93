"""The recorder: while a run goes on, writes every caption's pictures into shards as soon as they are complete.

It copies out of the ring and holds nothing there, so nobody ever waits for it. If it falls behind, captions are evicted
before it gets to them: they are missing from the shards and counted, in RUN/recorder.json and in the summary.
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

AT_ONCE = 32  # groups copied at a time
POLL_S = 0.05
NOTE_EVERY_S = 1.0


def main(context: RoleContext) -> None:
    config, ring = context.config, context.ring
    folder = Path(config.launch.record_shards)
    ring.heartbeat("reading the shards that are there")
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        shards = ShardWriter(folder, config.generators.names, config.launch.shard_images)
        _note(context.run_folder.recorder_state, folder, shards)  # before the first shard: it says whose the folder is
        follower, noted = Follower(ring), (time.monotonic(), shards.shards)
        while True:
            last, began = context.stopping, time.monotonic()  # in this order: nothing gets complete once it stops
            groups = follower.next(AT_ONCE)
            for group in groups or ():
                if group.task_id not in shards.tasks:  # else it was written before the run was resumed
                    shards.write(_samples(group), group.images)
            if began - noted[0] > NOTE_EVERY_S or shards.shards > noted[1]:
                _note(context.run_folder.recorder_state, folder, shards)
                noted = began, shards.shards
            doing = f"{len(shards.tasks)} captions, {shards.samples} pictures, {shards.shards} shards"
            if groups is not None:
                ring.heartbeat(doing, busy_s=time.monotonic() - began)
                continue
            if last:
                break
            time.sleep(POLL_S)
            ring.heartbeat(doing, waited_s=time.monotonic() - began)
        shards.publish()
        _note(context.run_folder.recorder_state, folder, shards)
    finally:
        os.close(lock)


def _samples(group: CompleteGroup) -> list[ShardSample]:
    columns = zip(group.members, group.negative.tolist(), group.generators, group.seeds, strict=True)
    return [
        ShardSample(
            group.task_id, member, negative, group.negative_caption if negative else group.caption, generator, seed
        )
        for member, negative, generator, seed in columns
    ]


def _note(file: Path, folder: Path, shards: ShardWriter) -> None:
    so_far = {
        "folder": str(folder.absolute()),
        "captions": len(shards.tasks),
        "pictures": shards.samples,
        "shards": shards.shards,
    }
    write_json(file, so_far)


def _lock(folder: Path) -> int:
    """Keeps a second run out of the folder until this process ends in any way."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"another run writes its shards into {folder}: choose another --record-shards") from None
    return descriptor


if __name__ == "__main__":
    run_role(main, "recorder")
