"""Whose shards are in the folder of a resumed run's recorder."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import write_json
from polygen_stream.config import load_config
from polygen_stream.launch.preflight import check_record_shards

pytest.importorskip("webdataset")


def test_a_folder_of_shards_may_be_moved_and_another_runs_is_refused(tmp_path):
    run, old, new = tmp_path / "run", tmp_path / "old", tmp_path / "new"
    for folder in (run, old):
        folder.mkdir()
    for number in range(2):
        (old / f"{number:06d}.tar").write_bytes(b"")
    write_json(run / "recorder.json", {"folder": str(old), "shards": 2})
    check_record_shards(load_config(None, {"launch.record_shards": str(old)}), run, resumed=True)
    old.rename(new)
    moved = load_config(None, {"launch.record_shards": str(new)})
    check_record_shards(moved, run, resumed=True)
    for refused in (run, tmp_path / "other"):
        with pytest.raises(UserError, match="is not empty, and this run did not write it"):
            check_record_shards(moved, refused, resumed=refused != run)
    (new / "000002.tar").write_bytes(b"")  # not this run's
    with pytest.raises(UserError, match="this run did not write it"):
        check_record_shards(moved, run, resumed=True)
