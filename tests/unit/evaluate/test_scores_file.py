"""Files of scores: read whatever is in them, written whole, and added to by several at a time."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import check_writable
from polygen_stream.evaluate.scores_file import add_scores, read_scores, write_scores

SCORE = {"score": 0.5, "low": 0.4, "high": 0.6, "n": 10, "chance": None}


def content(task: str) -> dict:
    scores, correct = {task: {"acc1": SCORE}}, {task: {"cat/0.png": True}}
    return {"model": {"checkpoint": "x"}, "scores": scores, "read": {task: ["1 picture"]}, "correct": correct}


def test_scores_are_added_to_what_is_there(tmp_path):
    file = tmp_path / "evaluations" / "step_000001.json"
    assert read_scores(file) == {"scores": {}, "read": {}, "correct": {}}
    add_scores(file, content("a"))
    add_scores(file, content("b"))
    both = {key: {**content("a")[key], **content("b")[key]} for key in ("scores", "read", "correct")}
    assert len(both["correct"]) == 2 and read_scores(file) == {**content("b"), **both}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def add(file: Path, first: int) -> None:
    for number in range(first, first + 10):
        add_scores(file, content(str(number)))


def test_two_processes_lose_none_of_each_others_scores(tmp_path):
    file = tmp_path / "step_000001.json"
    context = get_context("fork")
    processes = [context.Process(target=add, args=(file, first)) for first in (0, 10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(map(int, read_scores(file)["scores"])) == list(range(20))


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "{}{", '{"scores": 3}', '{"correct": 3}', '{"scores": {"a": {"acc1": 1}}}', "\0" * 50]
)
def test_damage_is_one_line_and_stays_as_it_is(tmp_path, damage):
    file = tmp_path / "step_000001.json"
    file.write_text(damage)
    for use in (read_scores, lambda file: add_scores(file, content("a"))):
        with pytest.raises(UserError, match=r"step_000001\.json is damaged \(.*\): restore it, or delete it"):
            use(file)
    assert file.read_text() == damage


def test_what_cannot_be_written_is_found_out_before(tmp_path):
    check_writable(tmp_path / "scores.json")
    check_writable(tmp_path / "evaluations" / "step.json", makes_folder=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        check_writable(tmp_path / "nowhere" / "scores.json")
    with pytest.raises(UserError, match=r"it is a folder; name a file"):
        check_writable(tmp_path)
    for file in (Path("/proc/scores.json"), Path("/proc/self/evaluations/step.json")):
        with pytest.raises(UserError, match=r"cannot write /proc/.*: "):
            check_writable(file, makes_folder=True)


def test_a_device_is_written_into_and_not_replaced(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_scores(link, content("a"))
    assert link.is_symlink() and not Path("/dev/null").is_file()
    kept = tmp_path / "kept.json"
    (tmp_path / "link.json").symlink_to(kept)
    write_scores(tmp_path / "link.json", content("a"))
    assert json.loads(kept.read_text()) == content("a")


KEYS = st.sampled_from(["scores", "read", *SCORE])
ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=30) | ANY.map(lambda each: json.dumps(each).encode()) | ANY.map(
    lambda each: json.dumps({"scores": {"a": {"acc1": each}}}).encode()))  # fmt: skip
def test_any_bytes_are_scores_or_a_user_error(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_bytes(data)
    try:
        found = read_scores(file)
    except UserError as problem:
        assert "\n" not in str(problem)
    else:
        assert all(0 * s["score"] == 0 for task in found["scores"].values() for s in task.values())
