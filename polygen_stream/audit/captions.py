"""The audit of the micro language models: are captions captions, and do hard negatives change exactly the named axis?

As the paper's Table 3, which finds 74 % of Llama-3.1-8B's hard negatives right. Replies are judged twice: by the
validators, before any retry, and, where these let one pass, against every hard negative that the grammar could write.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import numpy as np

from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.base import seeding
from polygen_stream.base.seeding import key
from polygen_stream.captions.banks.micro import MicroBank
from polygen_stream.captions.models.language_model import LanguageModel
from polygen_stream.micro import world
from polygen_stream.micro.language import AXES, draw_caption_pair, sample_request
from polygen_stream.micro.reference_negatives import reference_negatives


def audit_writer(model: LanguageModel, count: int, seed: int = 0) -> dict[str, object]:
    """Base captions for `count` concepts and axes, as the ledger draws them; shares with 95 % Wilson intervals.

    `valid` is a caption of the grammar, `concept_present` one that has the concept too, `accepted` one that its axis
    can edit and that names no reserved combination.
    """
    bank = MicroBank()
    asked = [sample_request(seeding.rng(seed, "audit writer", i)) for i in range(count)]  # every other of a whole scene
    began = time.perf_counter()
    replies = model.complete(
        [bank.caption_prompt(*a, whole_scene=i % 2 == 1) for i, a in enumerate(asked)],
        [key(seed, "audit writer", i) >> 1 for i in range(count)],
    )
    seconds = time.perf_counter() - began
    faults = [bank.check_caption(reply, *a).fault for reply, a in zip(replies, asked, strict=True)]
    malformed = ("unparsable", "too long", "endless")
    return {
        "valid": _share(fault not in malformed for fault in faults),
        "concept_present": _share(fault not in (*malformed, "no concept") for fault in faults),
        "accepted": _share(fault is None for fault in faults),
        "faults": dict(Counter(fault for fault in faults if fault)),
        "distinct": round(len({reply.text for reply in replies}) / count, 4),
        "captions_per_second": round(count / seconds, 1),
    }


def audit_editor(model: LanguageModel, per_axis: int, seed: int = 0) -> dict[str, object]:
    """Hard negatives of `per_axis` grammar captions for every axis; shares with 95 % Wilson intervals.

    `one_axis` is the raw share that changes exactly the named axis. A negative that names a reserved combination has
    done so and is still refused: combinations are kept for evaluation, not wrong. `exact` is the share of accepted
    ones that the grammar could have written.
    """
    bank = MicroBank()
    right: dict[str, list[bool]] = {axis: [] for axis in AXES}
    exact: dict[str, list[bool]] = {axis: [] for axis in AXES}
    faults: Counter[str] = Counter()
    seconds = 0.0
    for axis in AXES:
        drawn = [
            draw_caption_pair(
                world.THINGS[i % len(world.THINGS)], axis, i % 4 > 1, seeding.rng(seed, "audit editor", axis, i)
            )
            for i in range(per_axis)
        ]
        began = time.perf_counter()
        replies = model.complete(
            [bank.negative_prompt(d.text, axis) for d in drawn],
            [key(seed, "audit editor", axis, i) >> 1 for i in range(per_axis)],
        )
        seconds += time.perf_counter() - began
        for d, reply in zip(drawn, replies, strict=True):
            fault = bank.check_negative(reply, d.text, axis).fault
            right[axis].append(fault in (None, "reserved"))
            if fault is None:
                exact[axis].append(reply.text in reference_negatives(d, axis))
            else:
                faults[f"{axis}: {fault}"] += 1
    return {
        "one_axis": _share(v for values in right.values() for v in values),
        "one_axis_by_axis": {axis: _share(values) for axis, values in right.items()},
        "exact": _share(v for values in exact.values() for v in values),
        "exact_by_axis": {axis: _share(values) for axis, values in exact.items()},
        "faults": dict(faults.most_common()),
        "captions_per_second": round(per_axis * len(AXES) / seconds, 1),
    }


def _share(values: Iterable[bool]) -> dict[str, float]:
    return proportion_with_interval(np.array(list(values), float))
