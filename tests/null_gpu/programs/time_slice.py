"""A renderer has the device for two time slices, with a batch in each; prints what is left there after each.

python time_slice.py RECIPE
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from full_size import find_timesteps_by_position, load_full_size, step_at
from null_gpu import Counters

from polygen_stream.producers.renderer import _acquire_device, _release_device, _render
from polygen_stream.roles.device_lock import DeviceLock


def main() -> None:
    """Take the slices."""
    find_timesteps_by_position()
    step_at(500)
    counters = Counters()
    generator = load_full_size(sys.argv[1], "cpu")
    weights = generator.frozen_weights()
    before = counters.allocated
    claims = [SimpleNamespace(caption="a red dog on a beach", seed=seed) for seed in range(4)]
    slices = []
    with tempfile.TemporaryDirectory() as folder:
        device_lock = DeviceLock(Path(folder), "cuda:0", 1.0)
        for _ in range(2):
            copied = Counters()
            assert _acquire_device(device_lock, weights, "cuda:0")
            arrived = {name: getattr(copied, name) for name in ("bytes_in", "copies_in", "pageable_copies_in", "waits")}
            held = counters.allocated
            _render(generator, claims, min_batch=1)
            leaving = Counters()
            _release_device(device_lock, weights)
            slices.append({**arrived, "copies_out": leaving.copies_out, "held": held, "left": counters.allocated})
    print(json.dumps({"before": before, "slices": slices}))


if __name__ == "__main__":
    main()
