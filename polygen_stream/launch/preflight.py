"""What a run needs from the machine and can be found missing before anything starts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from polygen_stream.base.cuda_driver import too_old, torch_cuda_version
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import nearest_existing
from polygen_stream.base.json_files import read_json
from polygen_stream.base.nvidia_smi import NoNvidiaSmi, query_gpus
from polygen_stream.base.python import python_command
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig
from polygen_stream.launch import ring_file
from polygen_stream.launch.own_parts import ended_well
from polygen_stream.launch.process_plan import ProcessPlan
from polygen_stream.launch.rendezvous import rendezvous_environment
from polygen_stream.ring import ring_bytes
from polygen_stream.ring.pixel_file import file_bytes

MIB = 2**20
# Besides the ring: model, optimizer and averages of a checkpoint at micro scale, logs, journal and reports. What a
# large model adds is known to the trainer only, which says so when the disk is full.
REST_BYTES = 256 * MIB
# What tar adds to a picture, its text and its JSON: three headers, and each file filled up to 512 bytes.
TAR_BYTES = 3072


def check_start(config: RunConfig, plan: ProcessPlan, run_dir: Path, resumed: bool) -> None:
    """Refuse to start a run that lacks something which can be seen before; `run --dry-run` asks this too.

    Raises:
        UserError: As the checks below.
    """
    check_driver(plan)
    check_rendezvous(config)
    check_shards(config)
    check_record_shards(config, run_dir, resumed)
    check_disk(config, plan, run_dir)
    check_evaluation(config, plan)


def check_driver(plan: ProcessPlan) -> None:
    """Refuse GPUs whose driver is too old for the torch of the processes that are to use them.

    Whether there are GPUs at all, these processes say; an interpreter of the captioner's own has a torch of its own.

    Raises:
        UserError: the driver is too old.
    """
    on_gpu = any(p.device.startswith("cuda") and p.command[0] == sys.executable for p in plan.processes)
    cuda = torch_cuda_version() if on_gpu else None
    if cuda is None:
        return
    try:
        [(driver,), *_] = query_gpus("driver_version")
    except NoNvidiaSmi:
        return
    if needed := too_old(driver, cuda):
        raise UserError(
            f"the NVIDIA driver here is {driver}, but the installed torch is built for CUDA {cuda}, which needs driver "
            f"{needed} or newer: update the driver, or install a build of torch for an older CUDA"
        )


def check_rendezvous(config: RunConfig) -> None:
    """Refuse a rendezvous of several nodes that this node cannot reach, or others cannot from where it would connect.

    Raises:
        UserError: of either kind.
    """
    if config.launch.rendezvous:
        rendezvous_environment(config.launch.rendezvous)


def check_disk(config: RunConfig, plan: ProcessPlan, run_dir: Path) -> None:
    """Refuse to start a run whose checkpoints will not fit, or the file of its ring, or the shards of its recorder.

    Raises:
        UserError: too little space where the run folder, the ring's file or the shards are or will be.
    """
    train = config.train
    pictures = 0 if plan.ring.storage else plan.ring.slots * config.ring.image_size**2 * 3
    snapshot = ring_bytes(plan.ring) - (0 if train.checkpoint_images else pictures)
    kept = train.keep_checkpoints + 3  # the untrained one, the final one, and one that is being written
    needed = kept * snapshot + REST_BYTES
    there = nearest_existing(run_dir)
    free = shutil.disk_usage(there).free - _ring_file_bytes(config, plan, run_dir, there)
    if free < needed:
        raise UserError(
            f"{there} has {free / MIB:.0f} MiB free, but {kept} checkpoints with a ring of {snapshot / MIB:.0f} MiB "
            f"each and the rest of the run need {needed / MIB:.0f} MiB: free some space, choose another --run-dir, "
            "lower train.keep_checkpoints or ring.slots, or set train.checkpoint_images = false"
        )
    if config.launch.record_shards:
        shards = nearest_existing(Path(config.launch.record_shards).absolute())
        beside = needed if shards.stat().st_dev == there.stat().st_dev else 0
        _check_shards_fit(config, plan, shards, beside)


def _ring_file_bytes(config: RunConfig, plan: ProcessPlan, run_dir: Path, disk: Path) -> int:
    """Return what the file of the ring will still take of a disk; check it, whichever disk it is on.

    A run that starts has its file already, and all of its space.

    Raises:
        UserError: it cannot be where it is to be.
    """
    file = None if Path(plan.ring.storage).is_file() else ring_file.choose_file(config, run_dir)
    if file is None:
        return 0
    ring_file.check_file(plan.ring, file)
    elsewhere = nearest_existing(file.parent).stat().st_dev != disk.stat().st_dev
    return 0 if elsewhere or file.exists() else file_bytes(plan.ring)


def _check_shards_fit(config: RunConfig, plan: ProcessPlan, folder: Path, beside: int) -> None:
    """beside: bytes that the run itself needs on the same disk."""
    generators, target = config.generators, config.captions.target
    # Without a target the number is unknown; a full ring is the least.
    pictures = target * (generators.positives + generators.negatives) or plan.ring.slots
    needed = pictures * (config.ring.image_size**2 * 3 + TAR_BYTES)
    free = shutil.disk_usage(folder).free - beside
    if free < needed:
        run = f" beside the run's own {beside / MIB:.0f} MiB" if beside else ""
        raise UserError(
            f"{folder} has {free / MIB:.0f} MiB free{run}, but shards of up to {pictures} pictures need up to "
            f"{needed / MIB:.0f} MiB: free some space, choose another --record-shards, or lower captions.target"
        )


def check_record_shards(config: RunConfig, run_dir: Path, resumed: bool) -> None:
    """Refuse a recorder that could not write, or would write into what is not its own.

    Raises:
        UserError: the webdataset package is missing, or the folder holds something that this run did not write.
    """
    if not config.launch.record_shards:
        return
    _check_webdataset()
    folder = Path(config.launch.record_shards).absolute()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--record-shards {folder} is a file: choose a new folder")
    ours = resumed and _has_moved_here(read_json(RunFolder(run_dir).recorder_state), folder)
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise UserError(
            f"--record-shards {folder} is not empty, and this run did not write it: choose another, or move it away"
        )


def _has_moved_here(state: dict[str, Any], folder: Path) -> bool:
    """Whether `folder` has the shards that the recorder of this run wrote, there or in a folder that is no more."""
    if state.get("folder") == str(folder):
        return True
    moved = bool(state.get("folder")) and not Path(state["folder"]).exists() and any(folder.glob("*.tar*"))
    return moved and len(list(folder.glob("*.tar"))) == state.get("shards")


def check_evaluation(config: RunConfig, plan: ProcessPlan) -> None:
    """Refuse tasks of evaluate.tasks whose data cannot be used; as the evaluator opens it, in a process of its own.

    Raises:
        UserError: An unknown task, or data that is not there or cannot be used.
    """
    tasks, data = config.evaluate.tasks, config.evaluate.data
    if not tasks or not plan.with_role("evaluator"):
        return
    command = python_command("-m", "polygen_stream.evaluate.check", data, *tasks)
    try:
        ended_well(command, "opening the data of evaluate.tasks")
    except UserError as problem:
        raise UserError(f"evaluate.tasks: {problem}") from None


def check_shards(config: RunConfig) -> None:
    """Refuse a run from shards when there are none; what is in them the reader checks.

    Raises:
        UserError: the webdataset package is missing, or the folder, or it has no shards, or one that is no file.
    """
    if config.captions.source != "shards":
        return
    _check_webdataset()
    folder = Path(config.captions.shards)
    if not any(folder.glob("*.tar")):
        what = "no *.tar in it" if folder.is_dir() else "no such folder"
        raise UserError(f"--source shards:{folder}: {what}; name a folder that --record-shards or an export wrote")
    for shard in sorted(folder.glob("*.tar")):
        if not (shard.is_file() and os.access(shard, os.R_OK)):
            why = "cannot be read" if shard.is_file() else "is no file, or a link to none"
            raise UserError(f"--source shards:{folder}: {shard.name} {why}: move it away, or bring it back")


def _check_webdataset() -> None:
    if importlib.util.find_spec("webdataset") is None:
        raise UserError("shards need the webdataset package: pip install 'polygen-stream[export]'")
