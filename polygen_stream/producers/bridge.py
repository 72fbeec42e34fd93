"""A bridge to renderers on other machines: claims of one generator go out to Ray actors, images come into the ring.

    python -m polygen_stream.producers.bridge --run-dir DIR --ring-fd FD --name NAME --generator RECIPE

To ring and supervisor the bridge is that generator's renderer. Ray keeps the actors alive: it starts them where there
is a GPU, and again elsewhere when their machine is lost. An actor has a credit of two batches, one to render and one to
continue with, so that the number of claims is bounded and nothing piles up on the other machine. What a lost actor was
working on is sent to another one; the claims stay this process's, so that this costs none of ring.max_retries. Without
any actor for generators.remote_timeout_s this process ends, its claims are wanted again, and the supervisor starts it
once more or, in the end, lets the run continue without the generator.

Images lie in Ray's object store until they are copied, once, into the ring.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.config import RunConfig
from polygen_stream.generators.recipe import Recipe, load_recipe
from polygen_stream.producers.recorded import commit_recorded, recorded_images
from polygen_stream.producers.renderer import POLL_S, is_finished, publish
from polygen_stream.ring import Claim
from polygen_stream.roles.role import RoleContext, run_role

CREDITS = 2  # batches with an actor at once
RETRY_S = 1.0  # between two attempts to reach an actor that was lost
CONNECT_TIMEOUT_S = 10.0


class RemoteRenderer:
    """The Ray actor: one generator, its weights loaded on the machine that it runs on."""

    def __init__(self, recipe: Recipe, device: str, size: int, backend: str, threads: int) -> None:
        from polygen_stream.generators.pipelines import load_generator

        self._generator = load_generator(recipe, device, size)
        if backend != "eager":
            from polygen_stream.engine.runtime import accelerate

            accelerate(self._generator, backend, threads)

    def ready(self) -> bool:
        """Return once the generator is loaded."""
        return True

    def render(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """Render n images, uint8 [n, H, W, 3]."""
        return self._generator.render(captions, seeds)


@dataclass(eq=False)
class ActorState:
    """What this process knows of one actor.

    Args:
        handle: of Ray.
        ready_call: the reference of its last `ready` call; None once that was answered.
        asked: when that call was made, or found lost.
        alive: whether its last call was answered.
        batches: number of batches that it has.
    """

    handle: Any
    ready_call: Any
    asked: float
    alive: bool = False
    batches: int = 0


@dataclass
class ActorPool:
    """The actors of one generator.

    Args:
        ray: the module, connected.
        actors: all of them, alive or not.
        lost_errors: what Ray raises for a call whose actor or result is gone.
        in_flight: reference of each render call -> its actor and claims.
        to_resend: batches whose actor was lost.
        last_alive: when an actor was last known to be alive.
        problem: the error of the last call that was lost.
    """

    ray: Any
    actors: list[ActorState]
    lost_errors: tuple[type[Exception], ...]
    in_flight: dict[Any, tuple[ActorState, list[Claim]]] = field(default_factory=dict)
    to_resend: deque[list[Claim]] = field(default_factory=deque)
    last_alive: float = field(default_factory=time.monotonic)
    problem: str = "none has answered yet"

    def poll_actors(self, now: float) -> None:
        """Ask actors whether they are ready, and take in their answers."""
        for actor in self.actors:
            if actor.ready_call is None and not actor.alive and now - actor.asked >= RETRY_S:
                actor.ready_call, actor.asked = actor.handle.ready.remote(), now
            if actor.ready_call is not None and self.ray.wait([actor.ready_call], timeout=0)[0]:
                try:
                    self.ray.get(actor.ready_call)
                    actor.alive = True
                except self.lost_errors as problem:
                    actor.asked, self.problem = now, str(problem).splitlines()[0]
                actor.ready_call = None
        if any(actor.alive for actor in self.actors):
            self.last_alive = now

    def least_busy(self) -> ActorState | None:
        """Return the least busy actor that may have another batch."""
        free = [actor for actor in self.actors if actor.alive and actor.batches < CREDITS]
        return min(free, key=lambda actor: actor.batches, default=None)

    def send(self, actor: ActorState, claims: list[Claim]) -> None:
        """Have an actor render a batch."""
        call = actor.handle.render.remote([claim.caption for claim in claims], [claim.seed for claim in claims])
        self.in_flight[call] = (actor, claims)
        actor.batches += 1

    def receive(self, timeout_s: float) -> list[tuple[list[Claim], np.ndarray]]:
        """Return batches that came back within the timeout. Those that were lost are put into `to_resend`."""
        if not self.in_flight:
            return []
        done, _ = self.ray.wait(list(self.in_flight), num_returns=1, timeout=timeout_s)
        batches = []
        for call in done:
            actor, claims = self.in_flight.pop(call)
            actor.batches -= 1
            try:
                batches.append((claims, self.ray.get(call)))
            except self.lost_errors as problem:
                actor.alive, actor.asked, self.problem = False, time.monotonic(), str(problem).splitlines()[0]
                self.to_resend.append(claims)
        return batches


def main(context: RoleContext, actor_class: type = RemoteRenderer) -> None:
    """Pass claims to the actors and images to the ring until there is nothing left to render, or until asked to stop.

    Args:
        context: config and ring.
        actor_class: the class of the actors.

    Raises:
        UserError: Ray is not installed.
        PolygenError: there is no cluster, or no actor for generators.remote_timeout_s.
    """
    config, ring, name = context.config, context.ring, context.generator
    assert name is not None, "the supervisor starts a bridge for a generator"
    index, timeout_s = config.generators.names.index(name), config.generators.remote_timeout_s
    ring.heartbeat("joining the Ray cluster")
    pool, recorded = _start_actors(config, name, actor_class), recorded_images(config, ring)
    while not context.stopping:
        start = time.monotonic()
        pool.poll_actors(start)
        if start - pool.last_alive > timeout_s:
            raise PolygenError(
                f"no Ray actor of {name} has been alive for {timeout_s:g} s (generators.remote_timeout_s): "
                f"{pool.problem}; see `ray status` for nodes with {config.generators.remote_gpus:g} GPUs free"
            )
        while (actor := pool.least_busy()) is not None:
            claims = pool.to_resend.popleft() if pool.to_resend else ring.claim([index], config.generators.batch)
            if not claims:
                break
            if claims := commit_recorded(ring, claims, recorded):
                pool.send(actor, claims)
        batches = pool.receive(POLL_S)
        for claims, images in batches:
            publish(ring, claims, images)
        alive = sum(actor.alive for actor in pool.actors)
        doing = f"{alive} of {len(pool.actors)} actors, {len(pool.in_flight)} batches under way"
        if batches:
            ring.heartbeat(doing, busy_s=time.monotonic() - start)
            continue
        if not pool.in_flight:
            if not pool.to_resend and is_finished(ring, name):
                return
            time.sleep(POLL_S)
        ring.heartbeat(doing, waited_s=time.monotonic() - start)


def _start_actors(config: RunConfig, name: str, actor_class: type) -> ActorPool:
    """Connect to the cluster and ask for the actors, which end with this process.

    Raises:
        UserError: Ray is not installed.
        PolygenError: no cluster can be reached.
    """
    generators = config.generators
    try:
        import ray
        from ray import exceptions
    except ImportError:
        raise UserError(
            f"generators.remote = {generators.remote!r} needs Ray: pip install 'polygen-stream[ray]'"
        ) from None
    try:
        _check_reachable(generators.remote)
        ray.init(address=generators.remote, log_to_driver=False, namespace="polygen-stream", configure_logging=False)
    except (OSError, RuntimeError, ValueError) as problem:  # a ConnectionError is an OSError
        raise PolygenError(
            f"generators.remote = {generators.remote!r}: no Ray cluster there ({str(problem).splitlines()[0]}); start "
            "one with `ray start --head`, or clear the key"
        ) from None
    lost_errors = (
        exceptions.RayActorError,
        exceptions.ObjectLostError,
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
    )
    needs = {"num_gpus": generators.remote_gpus, "num_cpus": config.launch.renderer_threads}
    resources = {generators.remote_resource: 1} if generators.remote_resource else {}
    remote_class = ray.remote(actor_class).options(max_restarts=-1, max_task_retries=0, resources=resources, **needs)
    device = "cuda" if generators.remote_gpus else "cpu"
    # The recipe itself: its file is on this machine only. A folder of weights has to be on both.
    recipe = load_recipe(generators.recipe_of(name))
    arguments = (recipe, device, config.ring.image_size, generators.backend, config.launch.renderer_threads)
    now = time.monotonic()
    actors = []
    for _ in range(generators.remote_actors):
        handle = remote_class.remote(*arguments)
        actors.append(ActorState(handle, handle.ready.remote(), now))
    return ActorPool(ray, actors, lost_errors)


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray itself would try for minutes, and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


if __name__ == "__main__":
    run_role(main, "renderer")
