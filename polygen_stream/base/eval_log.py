"""Reading eval.jsonl: a line for each checkpoint that was scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.records import is_count, is_number, is_object, is_text, is_tree_of

# The scores of the micro suite, and the last one by edit.
SUITE = ("zero_shot_things", "zero_shot_colours", "retrieval_i2t_r1", "retrieval_t2i_r1", "compositional")
BY_EDIT = "compositional_by_edit"
# Of micro SugarCrepe++, which lines of earlier versions do not have.
SUGARCREPE_PP = ("micro_sugarcrepe_pp_itt", "micro_sugarcrepe_pp_tot")
ITT_BY_EDIT = "micro_sugarcrepe_pp_itt_by_edit"


def read_evaluations(file: Path, usable: Callable[[dict[str, Any]], bool] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the lines of eval.jsonl; none if there is no such file.

    A line has step, final, and, {} if there are none, metrics, chance, intervals, tasks and failed
    (`evaluate/run.py`). A line with anything else there is skipped as damaged.

    Args:
        file: eval.jsonl.
        usable: What a line has to fulfil besides.
    """
    return read_jsonl(file, required=("step", "final"), kinds=_KINDS, usable=usable)


def has_whole_suite(line: dict[str, Any]) -> bool:
    """Whether a line has metrics and chance, and in them all scores of the micro suite or none."""
    if not line.keys() >= {"metrics", "chance"}:
        return False
    metrics, chance, intervals = line["metrics"], line["chance"], line.get("intervals", {})
    if not metrics:
        return True
    parts = [metrics, chance, *([metrics["seen"]] if "seen" in metrics else [])]
    return (
        all(_is_suite_of(is_number, part) for part in parts)
        and all(metrics[BY_EDIT].keys() == part[BY_EDIT].keys() for part in parts)
        and (not intervals or _is_suite_of(_is_interval, intervals))
    )


def suite_scores(lines: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return the scores of the micro suite that all lines have, with metrics, chance, and intervals if any.

    Args:
        lines: Those of which `has_whole_suite` is true, with metrics.
    """

    def has(line: dict[str, Any], key: str) -> bool:
        metrics, intervals = line["metrics"], line.get("intervals", {})
        parts = [metrics, line["chance"], *([metrics["seen"]] if "seen" in metrics else [])]
        return all(is_number(part.get(key)) for part in parts) and (not intervals or _is_interval(intervals.get(key)))

    return (*SUITE, *(key for key in SUGARCREPE_PP if all(has(line, key) for line in lines)))


def _is_suite_of(is_leaf: Callable[[Any], bool], part: Any) -> bool:
    return is_object(part) and all(is_leaf(part.get(key)) for key in SUITE) and is_object(part.get(BY_EDIT))


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _is_score(value: Any) -> bool:
    return (
        is_object(value)
        and all(is_number(value.get(key)) for key in ("score", "low", "high"))
        and is_count(value.get("n"))
        and (value.get("chance") is None or is_number(value["chance"]))
    )


def _is_tasks(value: Any) -> bool:
    return is_object(value) and all(
        is_object(scores) and scores and all(map(_is_score, scores.values())) for scores in value.values()
    )


_KINDS = {
    "step": is_count,
    "final": lambda value: isinstance(value, bool),
    "metrics": is_tree_of(is_number, 3),
    "chance": is_tree_of(is_number, 2),
    "intervals": is_tree_of(_is_interval, 3),
    "tasks": _is_tasks,
    "failed": is_tree_of(is_text, 1),
}
