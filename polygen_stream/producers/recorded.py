"""What renderers do with images that the run has recorded: commit them instead of rendering them again."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from polygen_stream.config import RunConfig
from polygen_stream.export.recorded_images import RecordedImages
from polygen_stream.ring import Claim, Ring


def recorded_images(config: RunConfig, ring: Ring) -> RecordedImages | None:
    """Return the images that the run's recorder has written before this process started; None if there are none."""
    if not config.launch.record_shards:
        return None
    ring.heartbeat("reading the shards that are there")
    found = RecordedImages(Path(config.launch.record_shards), config.generators.names, ring.spec.image_shape)
    if not len(found):
        return None
    logging.info("%s has images of %d captions: they are not rendered again", config.launch.record_shards, len(found))
    return found


def commit_recorded(ring: Ring, claims: list[Claim], recorded: RecordedImages | None) -> list[Claim]:
    """Commit the claimed images that were recorded, and return the claims of the others."""
    if recorded is None:
        return claims
    images = {claim.slot: image for claim in claims if (image := recorded.read(claim)) is not None}
    there = [claim for claim in claims if claim.slot in images]
    if there:
        ring.commit(there, np.stack([images[claim.slot] for claim in there]))
    return [claim for claim in claims if claim.slot not in images]
