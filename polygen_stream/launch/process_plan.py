"""What a run starts: one entry per process with its command line, environment, device and expected memory.

`run --dry-run` prints this plan; `supervise` carries it out. Computed from the config alone.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.python import SAFE_PATH, python_command
from polygen_stream.config import (
    MEMORY,
    RunConfig,
    evaluated_tasks,
    groups_in_flight,
    pair_share,
    remote_generators,
    task_window,
)
from polygen_stream.launch.role_table import ROLES, Role
from polygen_stream.ring import RingSpec, check_spec, ring_bytes

MIB = 2**20

GUARDIAN_BYTES = 10 * MIB
BRIDGE_BYTES = 300 * MIB  # of a renderer's stand-in here, when it renders on a Ray cluster
VLLM_BYTES = 1700 * MIB  # of an engine with a micro model, its cache of 1 GiB included


@dataclass(frozen=True)
class ProcessSpec:
    """One process of the run.

    role decides when it runs: trainer, captioner, renderer, reader and recorder from the start, evaluator once there is
    a checkpoint, report after the rest has ended.
    """

    name: str  # unique, fit for a file name: its log is logs/NAME.log
    role: str
    command: tuple[str, ...]  # interpreter and module (or script), without the arguments all roles share
    generator: str | None = None
    rank: int | None = None  # of a trainer that is one of several, on this node or others
    leads: bool = True  # of a trainer: it draws, and writes checkpoints and metrics, for the ranks of its node
    replica: int | None = None  # of a renderer that is one of several of its generator, from 1
    device: str = "cpu"
    threads: int = 1
    memory_bytes: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    sees: str | None = None  # the name that its device has for it, if it is shown that one alone

    @property
    def kind(self) -> Role:
        """What its role says of it."""
        return ROLES[self.role]

    @property
    def label(self) -> str:
        """The process in words: "trainer", "trainer rank 1", "renderer micro/sana", "renderer sd15 #2"."""
        if self.rank is not None:
            return f"{self.role} rank {self.rank}"
        number = f" #{self.replica}" if self.replica else ""
        return f"{self.role} {self.generator}{number}" if self.generator else self.role

    def argv(self, run_dir: Path | str, ring_fd: int | str) -> list[str]:
        """Return the command line, with the arguments that all roles share."""
        shared = ["--run-dir", str(run_dir), "--ring-fd", str(ring_fd), "--name", self.name]
        generator = ["--generator", self.generator, "--device", self.sees or self.device] if self.generator else []
        # Not by the config: when training is over they get another place.
        place = ["--device", self.device, "--threads", str(self.threads)] if self.kind.after_training else []
        return [*self.command, *shared, *generator, *place]

    def moved(self, device: str, threads: int) -> ProcessSpec:
        """Return the same process on another device, with another number of threads."""
        here = _environment(self.device, self.threads)
        kept = {name: value for name, value in self.env.items() if name not in here}
        return replace(self, device=device, threads=threads, env={**kept, **_environment(device, threads)})


@dataclass(frozen=True)
class ProcessPlan:
    """Everything a run needs from the machine. `processes` in starting order (start_order.py says when each starts)."""

    processes: tuple[ProcessSpec, ...]
    ring: RingSpec

    def with_role(self, *roles: str) -> list[ProcessSpec]:
        """Return the processes of these roles, in starting order."""
        return [process for process in self.processes if process.role in roles]

    @property
    def threads(self) -> int:
        """Compute threads of all processes that work at once."""
        return sum(process.threads for process in self.processes if process.role != "report")

    def after_training(self, process: ProcessSpec) -> ProcessSpec:
        """Return evaluator or report as it is when training is over: with the trainer's GPU, and everybody's threads.

        The GPU is that of the node's first rank; where training was on the CPU, the process stays on its own device.
        """
        trainer = next((each.device for each in self.with_role("trainer")), "cpu")
        device = process.device if trainer == "cpu" else trainer
        return process.moved(device, min(self.threads, len(os.sched_getaffinity(0))))

    @property
    def memory_bytes(self) -> int:
        """Expected memory of the whole run, ring included, at its largest."""
        processes = sum(process.memory_bytes for process in self.processes)
        return ring_bytes(self.ring) + processes + GUARDIAN_BYTES


def build_process_plan(config: RunConfig, dashboard_port: int | None = None, there: bool = True) -> ProcessPlan:
    """Return the plan of a run, in the order in which its first step needs them: captions, pictures, trainer.

    Args:
        config: Of the run.
        dashboard_port: Where the report is served while the run goes on; None: nowhere.
        there: Whether what the plan names has to be on this machine.

    Raises:
        UserError: launch.captioner_python cannot be started, or two processes would have one name.
    """
    launch = config.launch
    processes = [
        *_producers(config, there),
        *_trainers(config),
        *([_process("recorder", "cpu", 1)] if launch.record_shards else []),
    ]
    if launch.node == 0:  # every node has the same model
        if evaluated_tasks(config):
            processes.append(_process("evaluator", config.evaluate.device, launch.evaluator_threads))
        processes.append(_process("report", "cpu", 1))
    if dashboard_port is not None:
        dashboard = _process("dashboard", "cpu", 1)
        port = {"POLYGEN_STREAM_DASHBOARD_PORT": str(dashboard_port)}
        processes.append(replace(dashboard, env={**dashboard.env, **port}))
    _check_names(processes)
    return ProcessPlan(tuple(processes), ring_spec(config))


def _check_names(processes: Sequence[ProcessSpec]) -> None:
    """Refuse generators whose processes would write to one log, e.g. "sd-1" and the first of two of "sd"."""
    labels: dict[str, str] = {}
    for process in processes:
        other = labels.setdefault(process.name, process.label)
        if other != process.label:
            raise UserError(f"{other} and {process.label} would both be called {process.name}: rename a recipe file")


def dashboard_port(wanted: int = 8089) -> int:
    """Return a port of the loopback interface that is free now: the wanted one, or any.

    Raises:
        UserError: No port is free.
    """
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise UserError("no port of 127.0.0.1 is free for the dashboard: leave --dashboard away")


def ring_spec(config: RunConfig) -> RingSpec:
    """Return the spec of a run's ring. Its group table has a row for every group the slots could hold, were all plain.

    `storage` is the folder of the config; the run folder decides on the file in it (ring_file.py).

    Raises:
        UserError: the config's values make no ring that works.
    """
    ring, generators = config.ring, config.generators
    deterministic = ring.mode == "deterministic"
    window, inserts_per_step = task_window(config) if deterministic else (0, 0.0)
    spec = RingSpec(
        slots=ring.slots,
        image_shape=(ring.image_size, ring.image_size, 3),
        groups=ring.slots // generators.positives,
        members=generators.positives + generators.negatives,
        caption_bytes=ring.caption_bytes,
        generators=generators.names,
        seed=config.seed,
        min_fill=ring.min_fill,
        max_times_sampled=ring.max_times_sampled,
        samples_per_insert=0.0 if deterministic else ring.samples_per_insert,  # there it sets the pace of the window
        error_buffer=ring.error_buffer,
        max_retries=ring.max_retries,
        max_age=ring.max_age,
        max_backlog=ring.max_backlog,
        mode=ring.mode,
        sampler=ring.sampler,
        catch_up=ring.catch_up,
        expected_groups=config.captions.target,
        window=window,
        inserts_per_step=inserts_per_step,
        in_flight=groups_in_flight(config),
        images_per_draw=config.train.images_per_text,
        feedback_half_life=config.synthesis.half_life,
        storage="" if ring.storage == MEMORY else ring.storage,
    )
    check_spec(spec)
    if ring.catch_up > 1:
        _check_room_for_all(config)
    return spec


def _check_room_for_all(config: RunConfig) -> None:
    """Refuse a ring in which captions push others out that are owed draws; the config is that of one node."""
    ring, generators, target = config.ring, config.generators, config.captions.target
    images = target * (generators.positives + min(1.0, pair_share(config)) * generators.negatives)
    if not target or images > ring.slots:
        problem = f"have about {images:,.0f} images" if target else "have no end"
        raise UserError(
            f"ring.catch_up = {ring.catch_up:g} needs a ring that holds all captions of the run, but captions.target = "
            f"{target:,} captions {problem}, and ring.slots = {ring.slots:,}: raise ring.slots, lower captions.target, "
            "or set ring.catch_up = 1"
        )


def _trainers(config: RunConfig) -> list[ProcessSpec]:
    """One process per rank of this node, with the environment variables by which torchrun tells ranks apart.

    Ranks are numbered node after node. Where rank 0 listens is added when they are started.
    """
    train, launch, threads = config.train, config.launch, config.launch.trainer_threads
    if train.ranks * launch.nodes == 1:
        return [_process("trainer", train.device, threads)]
    ranks = []
    for local_rank in range(train.ranks):
        device = f"cuda:{local_rank}" if train.device == "cuda" else train.device
        process, rank = _process("trainer", device, threads), launch.node * train.ranks + local_rank
        numbers = {
            "RANK": rank,
            "LOCAL_RANK": local_rank,
            "WORLD_SIZE": train.ranks * launch.nodes,
            "LOCAL_WORLD_SIZE": train.ranks,
        }
        environment = {**process.env, **{name: str(number) for name, number in numbers.items()}}
        ranks.append(replace(process, name=f"trainer-{rank}", rank=rank, leads=local_rank == 0, env=environment))
    return ranks


def _producers(config: RunConfig, there: bool) -> list[ProcessSpec]:
    if config.captions.source == "shards":
        return [_process("reader", "cpu", 1)]
    return [_captioner(config, there), *_renderers(config)]


def _renderers(config: RunConfig) -> list[ProcessSpec]:
    """Of every generator one process, or one on each of its devices: they claim out of the same ring.

    One that renders on a Ray cluster has a bridge to it instead.
    """
    renderers, remote = [], remote_generators(config)
    for generator in config.generators.names:
        if generator in remote:
            bridge = replace(_process("renderer", "cpu", 1, generator), memory_bytes=BRIDGE_BYTES)
            renderers.append(replace(bridge, command=tuple(python_command("-m", "polygen_stream.producers.bridge"))))
            continue
        devices = config.launch.renderers.get(generator, (config.generators.device,))
        for number, device in enumerate(devices, 1):
            process = _process("renderer", device, config.launch.renderer_threads, generator)
            if len(devices) > 1:
                process = replace(process, name=f"{process.name}-{number}", replica=number)
            # Turns are taken by the name that everybody has for a device, and no engine is loaded then.
            renderers.append(process if config.launch.time_slice_s else _alone_with_its_gpu(process))
    return renderers


def _captioner(config: RunConfig, there: bool) -> ProcessSpec:
    """The captioner under its own interpreter, if it has one. vLLM takes the first GPU that it sees."""
    captions, launch = config.captions, config.launch
    process = _process("captioner", captions.device, launch.captioner_threads)
    if launch.captioner_python:
        if there and not os.access(launch.captioner_python, os.X_OK):
            raise UserError(
                f"launch.captioner_python = {launch.captioner_python!r} cannot be started: give the path of a Python "
                "interpreter (make vllm-env makes .venv-vllm/bin/python)"
            )
        # Not resolved: a virtual environment's interpreter is a link, and knows its environment by its own path.
        process = replace(process, command=(os.path.abspath(launch.captioner_python), *process.command[1:]))
    if captions.source == "vllm":
        engines = 1 if captions.writer == captions.editor else 2
        process = replace(process, memory_bytes=process.memory_bytes + engines * VLLM_BYTES)
        process = _alone_with_its_gpu(process)
    return process


def _alone_with_its_gpu(process: ProcessSpec) -> ProcessSpec:
    """Show a process "cuda:N" as its first and only GPU.

    TensorRT and vLLM use the current one, and other GPUs of a mixed node would decide which engines are loaded.
    """
    device, _, index = process.device.partition(":")
    if device != "cuda" or not index:
        return process
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    chosen = seen[int(index)] if len(seen) > int(index) and seen[0] else index
    return replace(process, env={**process.env, "CUDA_VISIBLE_DEVICES": chosen}, sees="cuda:0")


def _process(role: str, device: str, threads: int, generator: str | None = None) -> ProcessSpec:
    name = f"{role}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', generator)}" if generator else role
    return ProcessSpec(
        name=name,
        role=role,
        command=tuple(python_command("-m", ROLES[role].module)),
        generator=generator,
        device=device,
        threads=threads,
        memory_bytes=ROLES[role].memory_bytes,
        env=_environment(device, threads),
    )


def _environment(device: str, threads: int) -> dict[str, str]:
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Idle OpenMP threads that spin steal the cores from the other roles: 4-8 times slower, measured.
        "OMP_WAIT_POLICY": "PASSIVE",
        # glibc gives a step's large tensors back to the kernel and faults them in again: a quarter of the image tower's
        # time on a CPU, measured.
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "TOKENIZERS_PARALLELISM": "false",
        # Weights are fetched before a run, never during one.
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        **SAFE_PATH,
        # Logs and files are UTF-8 whatever the locale is.
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": "",
        # Stacks of a crashed or hung process (which gets SIGABRT) go into its log.
        "PYTHONFAULTHANDLER": "1",
    }
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""  # no CUDA context, and no GPU memory, by accident
    else:
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts; CUDA puts the fastest first
    return environment
