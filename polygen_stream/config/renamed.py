"""Keys and options of earlier versions, with the names they have now.

A renamed key is refused with its new name, in a file as well as on the command line. It is not accepted under both
names: two spellings of one key would have to be told apart in every run folder.
"""

from __future__ import annotations

RENAMED_KEYS = {
    "captions.memory_share": "captions.gpu_memory_utilization",
    "captions.pattern": "captions.structured_output_regex",
    "captions.rest_after_s": "captions.sleep_after_s",
    "evaluate.images_per_thing": "evaluate.images_per_class",
    "launch.restarts": "launch.max_restarts",
    "launch.tee": "launch.record_shards",
    "launch.tee_pictures": "launch.shard_images",
    "launch.turn_s": "launch.time_slice_s",
    "train.accumulate": "train.accum_freq",
    "train.checkpoint_pictures": "train.checkpoint_images",
    "train.ema": "train.ema_decay",
}
RENAMED_OPTIONS = {"tee": "record-shards"}


def renamed(name: str) -> str | None:
    """Return the present name of a renamed key or option (without dashes); None if it was not renamed."""
    return RENAMED_KEYS.get(name) or RENAMED_OPTIONS.get(name)
