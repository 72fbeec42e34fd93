"""Where a run's ring file is, what is refused before it is made, and which files `clean` calls left over."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from small_rings import small_spec

from polygen_stream.base.errors import UserError
from polygen_stream.config import dump_config, load_config
from polygen_stream.launch import ring_file
from polygen_stream.launch.preflight import check_disk
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.launch.ring_files import COMPLETED, GONE, IN_USE, INTERRUPTED, NO_RUN, REMOVABLE, find_files
from polygen_stream.ring import Ring, ring_bytes
from polygen_stream.ring.pixel_file import file_bytes


def config(storage: Path | str):
    return load_config(None, {"ring.storage": str(storage)})


def make(run_dir: Path, folder: Path) -> tuple[int, Path]:
    """The file of a ring, as a run makes it, and the descriptor that locks it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    dump_config(config(folder), run_dir / "config.toml")
    file = ring_file.choose_file(config(folder), run_dir)
    held = ring_file.hold(file)
    Ring.create(small_spec(storage=str(file))).close()
    ring_file.record_file(run_dir, file)
    return held, file


def states(folder: Path) -> list[str]:
    return [found.state for found in find_files(folder)]


def test_a_ring_in_memory_has_no_file(tmp_path):
    assert ring_file.choose_file(config("memory"), tmp_path) is None
    assert ring_file.recorded_file(tmp_path) is None


def test_a_resumed_run_finds_its_file_also_when_its_folder_was_moved(tmp_path):
    held, file = make(tmp_path / "run", tmp_path / "disk")
    os.close(held)
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert ring_file.choose_file(config(tmp_path / "disk"), moved) == file
    assert ring_file.choose_file(config(tmp_path / "other disk"), moved).parent == tmp_path / "other disk"


def test_a_new_run_never_takes_a_file_that_is_there(tmp_path):
    files = {ring_file.choose_file(config(tmp_path), tmp_path / "run") for _ in range(50)}
    assert len(files) == 50 and {file.parent for file in files} == {tmp_path}
    long = ring_file.choose_file(config(tmp_path), tmp_path / ("r" * 255))
    assert len(long.name) < 255


def test_a_relative_folder_is_that_of_the_command_that_started_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = config("images/../rings")
    assert begun.ring.storage == str(tmp_path / "rings")
    dump_config(begun, tmp_path / "config.toml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config(tmp_path / "config.toml").ring.storage == str(tmp_path / "rings")


def test_a_file_is_held_as_long_as_one_process_of_its_run_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(ring_file, "LOCK_LIMIT_S", 0.3)
    held, file = make(tmp_path / "run", tmp_path / "disk")
    child = subprocess.Popen(["sleep", "60"], pass_fds=[held])
    os.close(held)
    with pytest.raises(UserError, match="is in use by a run that has not ended"):
        ring_file.hold(file)
    monkeypatch.setattr(ring_file, "LOCK_LIMIT_S", 30)
    child.kill()
    child.wait()
    os.close(ring_file.hold(file))


def test_a_plan_counts_images_as_disk_and_not_as_memory(tmp_path):
    memory, disk = (build_process_plan(config(storage)).ring for storage in ("memory", tmp_path))
    images = disk.slots * 32 * 32 * 3
    assert ring_bytes(memory) - ring_bytes(disk) == pytest.approx(images, abs=8192)
    assert file_bytes(replace(disk, storage=str(tmp_path / "x"))) >= images


@pytest.mark.parametrize(
    ("mount", "refused"),
    [
        ("36 35 0:33 / {} rw - nfs4 server:/x rw", True),
        ("36 35 0:33 / {} rw shared:1 - fuse.sshfs host:/x rw", True),
        ("36 35 0:33 / {} rw - ext4 /dev/sda rw", False),
        ("36 35 0:33 / {} rw - tmpfs tmpfs rw", False),
        ("36 35 0:33 / {}other rw - nfs4 server:/x rw", False),
    ],
)
def test_a_network_file_system_is_refused_by_its_name(tmp_path, monkeypatch, mount, refused):
    mounts = tmp_path / "mountinfo"
    folder = tmp_path / "avec espace, données"
    folder.mkdir()
    where = str(folder).replace(" ", "\\040")
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/root rw\n{mount.format(where)}\n")
    real = ring_file.file_system
    monkeypatch.setattr(ring_file, "file_system", lambda path: real(path, mounts))
    if refused:
        with pytest.raises(
            UserError, match=r"network file system \((nfs4|fuse\.sshfs)\): name a folder on a local disk"
        ):
            ring_file.check_file(small_spec(), folder / "x.ring")
    else:
        ring_file.check_file(small_spec(), folder / "x.ring")


def test_too_little_space_is_told_with_both_numbers_and_an_existing_file_needs_none(tmp_path):
    huge = small_spec(image_shape=(60_000, 60_000, 3))
    with pytest.raises(UserError, match=r"32 images need \d+\.\d+ GiB, but .* has \d+\.\d+ GiB free"):
        ring_file.check_file(huge, tmp_path / "new" / "x.ring")
    (tmp_path / "x.ring").touch()
    ring_file.check_file(huge, tmp_path / "x.ring")


def test_a_run_that_starts_needs_room_for_its_file_once(tmp_path):
    """Its file is there, with all its space, when the disk is looked at for the rest of the run."""
    plan = build_process_plan(config(tmp_path / "disk"))
    huge = replace(plan.ring, image_shape=(60_000, 60_000, 3))  # more than any disk has
    with pytest.raises(UserError, match="images need"):
        check_disk(config(tmp_path / "disk"), replace(plan, ring=huge), tmp_path / "run")
    (tmp_path / "x.ring").touch()
    there = replace(huge, storage=str(tmp_path / "x.ring"))
    check_disk(config(tmp_path / "disk"), replace(plan, ring=there), tmp_path / "run")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is no folder; name one on a local disk"):
        ring_file.check_file(small_spec(), tmp_path / "file" / "x.ring")


def test_what_became_of_the_runs_of_files(tmp_path, monkeypatch):
    disk, run = tmp_path / "disk", tmp_path / "run"
    held, file = make(run, disk)
    assert states(disk) == [IN_USE] and not find_files(disk)[0].remove()
    os.close(held)
    (tmp_path / "link").symlink_to(disk)
    monkeypatch.chdir(run)
    for name in (disk, tmp_path / "link", Path("../disk")):
        assert states(name) == [INTERRUPTED]
    (run / "summary.json").write_text("{")  # damaged: the run may need its file
    assert states(disk) == [INTERRUPTED]
    (run / "summary.json").write_text(json.dumps({"status": "completed", "resumes": []}))
    assert states(disk) == [COMPLETED]
    (run / "provenance.json").write_text(json.dumps({"resumed": [{"step": 9}]}))  # prolonged, and killed then
    assert states(disk) == [INTERRUPTED]
    run.rename(tmp_path / "moved")
    assert states(disk) == [GONE] and GONE not in REMOVABLE
    (tmp_path / "moved").rename(run)
    (run / "ring_file.json").unlink()
    assert states(disk) == [NO_RUN]
    assert find_files(disk)[0].remove() and not file.exists()
    (disk / "holiday.ring").write_bytes(b"a picture of a ring")
    assert states(disk) == [] and (disk / "holiday.ring").exists()


def test_a_completed_run_takes_its_file_along(tmp_path):
    held, file = make(tmp_path / "run", tmp_path / "disk")
    os.close(held)
    assert ring_file.remove_file(tmp_path / "run") == ""
    assert not file.exists() and ring_file.recorded_file(tmp_path / "run") is None
    assert ring_file.remove_file(tmp_path / "run") == ""
