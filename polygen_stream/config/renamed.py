"""Keys and options of earlier versions, with the names they have now.

A renamed key is refused with its new name, in a file as well as on the command line. It is not accepted under both
names: two spellings of one key would have to be told apart in every run folder.
"""

from __future__ import annotations

from collections.abc import Sequence

RENAMED_KEYS = {
    "captions.memory_share": "captions.gpu_memory_utilization",
    "captions.pattern": "captions.structured_output_regex",
    "captions.rest_after_s": "captions.sleep_after_s",
    "launch.tee": "launch.record_shards",
    "launch.tee_pictures": "launch.shard_images",
    "launch.turn_s": "launch.time_slice_s",
    "train.accumulate": "train.accum_freq",
    "train.checkpoint_pictures": "train.checkpoint_images",
    "train.ema": "train.ema_decay",
}
RENAMED_OPTIONS = {"peers": "baselines", "picture": "plot", "pictures": "images", "tee": "record-shards"}


def renamed_option(name: str, options: Sequence[str] = ()) -> str | None:
    """Return the present name of a key or option that was renamed.

    Args:
        name: Former name, without dashes.
        options: Options of the command, without dashes: a former option is explained where its new name is one of them.
            None given = explained anywhere.

    Returns:
        The new name without dashes; None if the name was not renamed.
    """
    new = RENAMED_OPTIONS.get(name)
    if new is not None and options and new not in options:
        return None
    return new or RENAMED_KEYS.get(name)
