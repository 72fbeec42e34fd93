"""A renderer: claims wanted images of its generator, renders them in batches, commits them to the ring."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.base.importing import collector_paused
from polygen_stream.generators.quality import refuse_reasons
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.producers.recorded import commit_recorded, recorded_images
from polygen_stream.ring import Claim, Ring
from polygen_stream.roles.device_lock import DeviceLock
from polygen_stream.roles.role import RoleContext, run_role

if TYPE_CHECKING:
    from polygen_stream.generators.frozen_weights import FrozenWeights
    from polygen_stream.generators.pipelines import Generator

POLL_S = 0.02


def main(context: RoleContext) -> None:
    """Render until there is nothing left to render, or until the process is asked to stop.

    Raises:
        UserError: the generator is not one of the run's, or its recipe cannot be used.
    """
    config, ring, name = context.config, context.ring, context.generator
    if name is None or name not in config.generators.names:
        raise UserError(f"--generator {name} is not one of the run's: {', '.join(config.generators.names)}")
    device_lock = context.device_lock(context.device)
    generator = _load_generator(context, name, "cpu" if device_lock.enabled else context.device)
    weights = generator.frozen_weights() if device_lock.enabled and context.device != "cpu" else None
    index, recorded = config.generators.names.index(name), recorded_images(config, ring)
    min_batch = 1 if ring.spec.mode == "throughput" else config.generators.batch
    while not context.stopping:
        start = time.monotonic()
        ready = device_lock.held or (
            ring.stats().backlog[name] > 0 and _acquire_device(device_lock, weights, context.device)
        )
        claims = ring.claim([index], config.generators.batch) if ready else []
        if not claims:
            if is_finished(ring, name):
                return
            if device_lock.contested():
                _release_device(device_lock, weights)
            time.sleep(POLL_S)
            ring.heartbeat("waiting for captions", waited_s=time.monotonic() - start)
            continue
        ring.heartbeat(f"rendering {len(claims)} images")
        if claims := commit_recorded(ring, claims, recorded):
            publish(ring, claims, _render(generator, claims, min_batch))
        ring.heartbeat("rendered", busy_s=time.monotonic() - start)
        if device_lock.slice_expired():
            _release_device(device_lock, weights)


def _load_generator(context: RoleContext, name: str, device: str) -> Generator:
    """Load a generator with the backend that the run asks for."""
    config, ring = context.config, context.ring
    recipe = load_recipe(config.generators.recipe_of(name))
    recipe.check_size(config.ring.image_size)  # before the model is loaded, which takes a while
    ring.heartbeat("importing diffusers")
    with collector_paused():
        from polygen_stream.generators.attention import prefer_xformers
        from polygen_stream.generators.pipelines import load_generator

    ring.heartbeat(f"loading {name}")
    generator, compiled = load_generator(recipe, device, config.ring.image_size), False
    if config.generators.backend != "eager":
        from polygen_stream.engine.runtime import accelerate

        ring.heartbeat(f"loading the {config.generators.backend} engines of {name}")
        compiled = accelerate(generator, config.generators.backend, config.launch.renderer_threads)
    if not compiled and prefer_xformers(generator.pipeline):
        logging.info("%s renders eager with xformers' attention", name)
    return generator


def _acquire_device(device_lock: DeviceLock, weights: FrozenWeights | None, device: str) -> bool:
    """Try to acquire the device, and move the weights there; False if another process has it."""
    if not device_lock.try_acquire():
        return False
    if weights is not None:
        weights.to_device(device)
    return True


def _release_device(device_lock: DeviceLock, weights: FrozenWeights | None) -> None:
    """Give back the device and its memory."""
    import torch

    if weights is not None:
        weights.to_host()
    torch.cuda.empty_cache()
    device_lock.release()


def _render(generator: Generator, claims: list[Claim], min_batch: int) -> np.ndarray:
    """Render the claimed images, uint8 [n, H, W, 3].

    In floating point an image depends on the size of its batch. A run that must give the same result every time renders
    batches of one size, padded with their last image.
    """
    padded = claims + claims[-1:] * (min_batch - len(claims))
    return generator.render([claim.caption for claim in padded], [claim.seed for claim in padded])[: len(claims)]


def publish(ring: Ring, claims: list[Claim], images: np.ndarray) -> None:
    """Commit the images that pass the quality gate; fail the others, which the ring has rendered again or gives up.

    Args:
        ring: where the claims are from.
        claims: n claims.
        images: uint8 [n, H, W, 3].
    """
    reasons = refuse_reasons(images)
    accepted = [i for i, reason in enumerate(reasons) if reason is None]
    ring.commit([claims[i] for i in accepted], images[accepted])
    for claim, reason in zip(claims, reasons, strict=True):
        if reason is not None:
            ring.fail([claim], reason)


def is_finished(ring: Ring, generator: str) -> bool:
    """Whether nothing is left to render for a generator, now or later."""
    stats = ring.stats()
    return stats.finished_opening and stats.backlog[generator] == 0


if __name__ == "__main__":
    run_role(main, "renderer")
