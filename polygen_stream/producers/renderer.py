"""A renderer: claims wanted images of its generator, renders them in batches, commits them to the ring."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.generators.quality import refuse_reasons
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.ring import Claim, Ring
from polygen_stream.roles.device_lock import DeviceLock
from polygen_stream.roles.role import RoleContext, run_role

if TYPE_CHECKING:
    from polygen_stream.generators.pipelines import Generator

POLL_S = 0.02


def main(context: RoleContext) -> None:
    config, ring, name = context.config, context.ring, context.generator
    if name not in config.generators.names:
        raise UserError(f"--generator {name} is not one of the run's: {', '.join(config.generators.names)}")
    recipe = load_recipe(config.generators.recipe_of(name))
    recipe.check_size(config.ring.image_size)  # before the model is loaded, which takes a while
    ring.heartbeat("loading the model")
    # These import torch and diffusers.
    from polygen_stream.generators.attention import prefer_xformers
    from polygen_stream.generators.pipelines import load_generator

    device_lock = context.device_lock(context.device)
    generator, compiled = (
        load_generator(recipe, "cpu" if device_lock.enabled else context.device, config.ring.image_size),
        False,
    )
    if config.generators.backend != "eager":
        ring.heartbeat("loading the engines")
        from polygen_stream.engine.runtime import accelerate

        compiled = accelerate(generator, config.generators.backend, config.launch.renderer_threads)
    if not compiled and prefer_xformers(generator.pipeline):
        logging.info("%s renders eager with xformers' attention", name)
    index = config.generators.names.index(name)
    batch = 1 if ring.spec.mode == "throughput" else config.generators.batch
    while not context.stopping:
        began = time.monotonic()
        ready = device_lock.held or (ring.stats().backlog[name] > 0 and _begin(device_lock, generator, context.device))
        claims = ring.claim([index], config.generators.batch) if ready else []
        if not claims:
            if production_is_over(ring, name):
                return
            if device_lock.contested():
                _end(device_lock, generator)
            time.sleep(POLL_S)
            ring.heartbeat("waiting for captions", waited_s=time.monotonic() - began)
            continue
        ring.heartbeat(f"rendering {len(claims)} images")
        hand_over(ring, claims, _render(generator, claims, batch))
        ring.heartbeat("rendered", busy_s=time.monotonic() - began)
        if device_lock.slice_expired():
            _end(device_lock, generator)


def _begin(device_lock: DeviceLock, generator: Generator, device: str) -> bool:
    """Asks for the device; when it is this process's turn, the weights go there."""
    if not device_lock.try_acquire():
        return False
    if device_lock.enabled:
        generator.pipeline.to(device)
    return True


def _end(device_lock: DeviceLock, generator: Generator) -> None:
    """Lets the next one have the device, and its memory."""
    import torch

    generator.pipeline.to("cpu")
    torch.cuda.empty_cache()
    device_lock.release()


def _render(generator: Generator, claims: list[Claim], at_least: int) -> np.ndarray:
    """Pictures of the claims, uint8 [n, H, W, 3].

    In floating point a picture depends on the size of its batch. A run that has to come out the same every time renders
    batches of one size, filled up with their last picture.
    """
    filled = claims + claims[-1:] * (at_least - len(claims))
    return generator.render([claim.caption for claim in filled], [claim.seed for claim in filled])[: len(claims)]


def hand_over(ring: Ring, claims: list[Claim], images: np.ndarray) -> None:
    """Commit what passes the quality gate; give the rest back, to be rendered again or to fail."""
    reasons = refuse_reasons(images)
    accepted = [i for i, reason in enumerate(reasons) if reason is None]
    ring.commit([claims[i] for i in accepted], images[accepted])
    for claim, reason in zip(claims, reasons, strict=True):
        if reason is not None:
            ring.fail([claim], reason)


def production_is_over(ring: Ring, name: str) -> bool:
    stats = ring.stats()
    return stats.finished_opening and stats.backlog[name] == 0


if __name__ == "__main__":
    run_role(main, "renderer")
