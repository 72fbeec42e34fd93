"""A bridge to producers on other machines: claims of one generator go out to Ray actors, pictures come into the ring.

    python -m polygen_stream.producers.bridge --run-dir DIR --ring-fd FD --name NAME --generator RECIPE

To ring and supervisor it is that generator's renderer. What Ray does is to keep the actors alive: it starts them where
there is a GPU, and again elsewhere when their machine is lost. An actor has a credit of two batches, one to render and
one to go on with, so that what is claimed is bounded and nothing piles up at the other end. What a lost actor was
working on is sent to another one; the claims stay this process's, so that costs none of ring.max_retries. Without any
actor for generators.remote_timeout_s this process ends, its claims are wanted again, and the supervisor starts it once
more or, in the end, has the run go on without the generator.

Pictures lie in Ray's object store until they are copied, once, into the ring.
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
from polygen_stream.producers.renderer import POLL_S, hand_over, production_is_over
from polygen_stream.ring import Claim
from polygen_stream.roles.role import RoleContext, run_role

CREDITS = 2  # batches with an actor at once
ASK_AGAIN_S = 1.0  # between questions to an actor that was lost
REACH_S = 10.0


class Producer:
    """What an actor is: one generator, its weights loaded where it runs."""

    def __init__(self, recipe: Recipe, device: str, size: int, backend: str, threads: int) -> None:
        from polygen_stream.generators.pipelines import load_generator

        self._generator = load_generator(recipe, device, size)
        if backend != "eager":
            from polygen_stream.engine.runtime import accelerate

            accelerate(self._generator, backend, threads)

    def ready(self) -> bool:
        return True

    def render(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [n, H, W, 3]."""
        return self._generator.render(captions, seeds)


@dataclass(eq=False)
class Actor:
    """One actor and what is known of it."""

    handle: Any
    question: Any  # the reference of its last `ready`, None once it was answered
    asked: float
    alive: bool = False
    batches: int = 0


@dataclass
class ActorPool:
    """The actors of one generator.

    Args:
        ray: the module, connected.
        lost_errors: what Ray raises of a call whose actor or result is gone.
    """

    ray: Any
    actors: list[Actor]
    lost_errors: tuple[type[Exception], ...]
    in_flight: dict[Any, tuple[Actor, list[Claim]]] = field(default_factory=dict)
    again: deque[list[Claim]] = field(default_factory=deque)  # batches whose actor was lost
    last_alive: float = field(default_factory=time.monotonic)
    problem: str = "none was heard of"  # what the last call that was lost said

    def look(self, now: float) -> None:
        """Asks and hears who is there."""
        for actor in self.actors:
            if actor.question is None and not actor.alive and now - actor.asked >= ASK_AGAIN_S:
                actor.question, actor.asked = actor.handle.ready.remote(), now
            if actor.question is not None and self.ray.wait([actor.question], timeout=0)[0]:
                try:
                    self.ray.get(actor.question)
                    actor.alive = True
                except self.lost_errors as problem:
                    actor.asked, self.problem = now, str(problem).splitlines()[0]
                actor.question = None
        if any(actor.alive for actor in self.actors):
            self.last_alive = now

    def with_credit(self) -> Actor | None:
        """The least busy actor that may have another batch."""
        free = [actor for actor in self.actors if actor.alive and actor.batches < CREDITS]
        return min(free, key=lambda actor: actor.batches, default=None)

    def send(self, actor: Actor, claims: list[Claim]) -> None:
        call = actor.handle.render.remote([claim.caption for claim in claims], [claim.seed for claim in claims])
        self.in_flight[call] = (actor, claims)
        actor.batches += 1

    def received(self, timeout_s: float) -> list[tuple[list[Claim], np.ndarray]]:
        """Batches that have come back by then; those that were lost are kept to be sent again."""
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
                self.again.append(claims)
        return batches


def main(context: RoleContext, producer: type = Producer) -> None:
    config, ring, name = context.config, context.ring, context.generator
    index, patience_s = config.generators.names.index(name), config.generators.remote_timeout_s
    ring.heartbeat("joining the Ray cluster")
    pool = _start(config, name, producer)
    while not context.stopping:
        began = time.monotonic()
        pool.look(began)
        if began - pool.last_alive > patience_s:
            raise PolygenError(
                f"no Ray actor of {name} has been alive for {patience_s:g} s (generators.remote_timeout_s): "
                f"{pool.problem}; see `ray status` for nodes with {config.generators.remote_gpus:g} GPUs free"
            )
        while (actor := pool.with_credit()) is not None:
            claims = pool.again.popleft() if pool.again else ring.claim([index], config.generators.batch)
            if not claims:
                break
            pool.send(actor, claims)
        batches = pool.received(POLL_S)
        for claims, images in batches:
            hand_over(ring, claims, images)
        alive = sum(actor.alive for actor in pool.actors)
        doing = f"{alive} of {len(pool.actors)} actors, {len(pool.in_flight)} batches under way"
        if batches:
            ring.heartbeat(doing, busy_s=time.monotonic() - began)
            continue
        if not pool.in_flight:
            if not pool.again and production_is_over(ring, name):
                return
            time.sleep(POLL_S)
        ring.heartbeat(doing, waited_s=time.monotonic() - began)


def _start(config: RunConfig, name: str, producer: type) -> ActorPool:
    """Connects to the cluster and asks for the actors, which end with this process.

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
        _reach(generators.remote)
        ray.init(address=generators.remote, log_to_driver=False, namespace="polygen-stream", configure_logging=False)
    except (OSError, RuntimeError, ValueError) as problem:  # a ConnectionError is an OSError
        raise PolygenError(
            f"generators.remote = {generators.remote!r}: no Ray cluster there ({str(problem).splitlines()[0]}); start "
            "one with `ray start --head`, or clear the key"
        ) from None
    lost = (
        exceptions.RayActorError,
        exceptions.ObjectLostError,
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
    )
    needs = {"num_gpus": generators.remote_gpus, "num_cpus": config.launch.renderer_threads}
    resources = {generators.remote_resource: 1} if generators.remote_resource else {}
    kind = ray.remote(producer).options(max_restarts=-1, max_task_retries=0, resources=resources, **needs)
    device = "cuda" if generators.remote_gpus else "cpu"
    # The recipe itself: its file is on this machine only. A folder of weights has to be on both.
    recipe = load_recipe(generators.recipe_of(name))
    arguments = (recipe, device, config.ring.image_size, generators.backend, config.launch.renderer_threads)
    now = time.monotonic()
    actors = []
    for _ in range(generators.remote_actors):
        handle = kind.remote(*arguments)
        actors.append(Actor(handle, handle.ready.remote(), now))
    return ActorPool(ray, actors, lost)


def _reach(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT: Ray itself would try for minutes, and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=REACH_S).close()


if __name__ == "__main__":
    run_role(main, "renderer")
