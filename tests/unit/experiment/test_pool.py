"""Pools on disk: seeds of the images, meanings of the captions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress

from polygen_stream.assets.resources import recipe_path
from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, CaptionSource, Dropped, describes_scene
from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.experiment.pool import (
    ImagePool,
    PoolCaption,
    image_seed,
    read_captions,
    render_shards,
    shards_of,
    write_captions,
)
from polygen_stream.experiment.quotas import EXHAUSTED_AFTER, Quotas, Sort
from polygen_stream.experiment.reserved import counts_path, read_counts, update_counts
from polygen_stream.experiment.spec import Experiment, PoolSpec
from polygen_stream.micro.parse import meaning, parse
from polygen_stream.schedule.ledger import CaptionTask, Ledger


def spec(**changes: object) -> PoolSpec:
    values = {"seed": 3, "captions": 4, "generators": ["micro/sdxl_turbo"], "layers": [{"captions": 4}]}
    return PoolSpec.model_validate(values | changes)


def write_by_hand(folder: Path, *texts: str, negatives: tuple[str, ...] = ()) -> None:
    captions = [
        PoolCaption(i, "cat", "replace_colour", text, negatives[i] if negatives else text)
        for i, text in enumerate(texts)
    ]
    lines = "".join(json.dumps(asdict(caption)) + "\n" for caption in captions)
    (folder / "captions.jsonl").write_text(lines)


def rendered(pool: PoolSpec, folder: Path) -> ImagePool:
    for generator in pool.generators:
        render_shards(pool, folder, generator, shards_of(pool, generator))
    return ImagePool(pool, folder)


CAPTIONS = ("a red cat", "a blue cat", "a cat on a beach", "a green car")


def test_images_of_one_caption_by_two_generators_start_from_their_own_noise(tmp_path: Path):
    """Two recipes of one model: with the same noise their images would be the same."""
    twins = []
    for name in ("one", "other"):
        (tmp_path / f"{name}.toml").write_text(recipe_path("micro/sdxl_turbo").read_text())
        twins.append(str(tmp_path / f"{name}.toml"))
    write_by_hand(tmp_path, *CAPTIONS)
    pool = rendered(spec(generators=twins), tmp_path)
    one, other = (pool.images(twin, False, 0).astype(int) for twin in twins)
    assert (np.abs(one - other).mean((1, 2, 3)) > 1).all()


def test_copies_start_from_their_own_noise_and_a_negative_from_that_of_its_positive(tmp_path: Path):
    """The negatives have the texts of their positives, so that an image of the same noise is the same image."""
    write_by_hand(tmp_path, *CAPTIONS)
    layers = [{"captions": 4, "copies": 2}, {"captions": 4, "copies": 2, "negatives": True}]
    pool = rendered(spec(layers=layers), tmp_path)
    copies = [pool.images("micro/sdxl_turbo", False, copy) for copy in range(2)]
    for copy in range(2):
        assert (pool.images("micro/sdxl_turbo", True, copy) == copies[copy]).all()
    assert (np.abs(copies[0].astype(int) - copies[1]).mean((1, 2, 3)) > 1).all()


def test_no_two_images_of_pools_have_one_seed():
    seeds = [
        image_seed(pool, task, generator, copy)
        for pool in range(2)
        for task in range(20)
        for generator in ("micro/sd15", "micro/sana")
        for copy in range(4)
    ]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 0 and max(seeds) < 2**63


def test_held_out_captions_have_one_image_by_each_generator_and_are_in_no_layer(tmp_path: Path):
    write_by_hand(tmp_path, *CAPTIONS)
    pool = rendered(spec(held_out=2, layers=[{"captions": 2}]), tmp_path)
    assert len(pool.images("micro/sdxl_turbo", False, 0)) == len(pool.held_out("micro/sdxl_turbo")) == 2
    whole = tmp_path / "whole"
    whole.mkdir()
    write_by_hand(whole, *CAPTIONS)
    all_images = rendered(spec(), whole).images("micro/sdxl_turbo", False, 0)
    both = np.concatenate([pool.images("micro/sdxl_turbo", False, 0), pool.held_out("micro/sdxl_turbo")])
    assert np.abs(both.astype(int) - all_images).max() <= 2  # rounding differs with the size of a batch


def test_a_pool_has_no_two_captions_of_one_meaning(tmp_path: Path):
    pool = spec(captions=400, layers=[{"captions": 400}])
    share = pool.config().captions.scene_share
    write_captions(GrammarSource(share), pool, tmp_path, Progress(disable=True))
    captions = read_captions(tmp_path)
    assert len({meaning(caption.text) for caption in captions}) == len(captions) == 400
    assert all(caption.negative is None for caption in captions)
    tasks = [caption.task_id for caption in captions]
    assert max(tasks) > 420  # some tasks were left out: the source does say things twice
    assert tasks != sorted(tasks)  # rare meanings come late, and arms take the first captions


def test_a_pool_has_equally_many_captions_of_every_axis_as_far_as_its_meanings_suffice(tmp_path: Path):
    """Drawn as runs draw them, half of the captions would be of the axes that have most meanings."""
    pool = spec(captions=2000, layers=[{"captions": 2000}, {"captions": 300, "negatives": True}])
    share = pool.config().captions.scene_share
    source = GrammarSource(share)
    write_captions(source, pool, tmp_path, Progress(disable=True))
    captions = read_captions(tmp_path)
    ledger = Ledger(pool.seed, source.concepts, source.axes, 1, 1)
    whole = [describes_scene(ledger.task(caption.task_id).caption_seed, share) for caption in captions]
    assert sum(whole) == share * 2000 == 500
    assert sum(whole[:400]) == pytest.approx(100, abs=40)  # the first are a sample of all; 4.6 standard deviations
    assert [caption.negative is not None for caption in captions] == [True] * 300 + [False] * 1700
    assert len({meaning(caption.text) for caption in captions}) == 2000
    axes = len(set(source.axes))
    counts = Counter(caption.axis for caption in captions)
    assert len(counts) == axes and max(counts.values()) - min(counts.values()) <= 2  # one of either sort


def test_the_quota_of_a_sort_without_more_meanings_goes_to_the_others():
    quotas = Quotas(100, 0.2, ("one", "other", "other", "third"))
    sorts = [Sort(axis, whole) for axis in ("one", "other", "third") for whole in (True, False)]
    left = {sort: quotas.left(sort) for sort in sorts}
    assert sum(left.values()) == 100
    assert [left[Sort(axis, True)] for axis in ("one", "other", "third")] == [7, 7, 6]
    for _ in range(left[Sort("other", False)]):
        quotas.note(Sort("other", False), True)
    quotas.note(Sort("one", False), True)
    for _ in range(EXHAUSTED_AFTER):
        quotas.note(Sort("one", False), False)
    assert quotas.left(Sort("one", False)) == 0
    assert quotas.left(Sort("other", False)) == 13  # it had its own, and takes half of the 26
    assert quotas.left(Sort("third", False)) == left[Sort("third", False)] + 13
    assert [quotas.left(Sort(axis, True)) for axis in ("one", "other", "third")] == [7, 7, 6]


class Forgetful(GrammarSource):
    """Gives every third caption no hard negative."""

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        if with_negative and task.task_id % 3 == 0:
            self._written.append(Dropped(("negative: unchanged",)))
        else:
            super().submit(task, with_negative)


def test_captions_whose_negative_fails_come_after_those_that_have_one(tmp_path: Path):
    pool = spec(captions=60, layers=[{"captions": 60}, {"captions": 20, "negatives": True}])
    write_captions(Forgetful(pool.config().captions.scene_share), pool, tmp_path, Progress(disable=True))
    captions = read_captions(tmp_path)
    assert len(captions) == 60
    assert all(caption.negative and caption.task_id % 3 for caption in captions[:20])
    assert not any(caption.negative for caption in captions[20:])
    all_of_them = spec(captions=60, layers=[{"captions": 60}, {"captions": 60, "negatives": True}])
    with pytest.raises(UserError, match=r"of the pool's 60 captions could be given a hard negative, and a layer"):
        write_captions(Forgetful(0.25), all_of_them, tmp_path, Progress(disable=True))


class ThreeMeanings(CaptionSource):
    """Writes the same three captions over and over, in other words."""

    concepts = ("cat",)
    axes = ("replace_colour",)
    provenance: Mapping[str, object] = {}

    def __init__(self) -> None:
        self._written: list[Caption | Dropped] = []

    @property
    def pending(self) -> int:
        return len(self._written)

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        texts = (
            "a red cat left of a car",
            "a photo of a car right of a red cat",
            "a red cat",
            "there is a red cat",
            "a cat",
        )
        self._written.append(Caption(texts[task.task_id % len(texts)], "a blue cat"))

    def collect(self) -> list[Caption | Dropped]:
        written, self._written = self._written, []
        return written


def test_a_bank_that_has_too_few_meanings_is_refused_with_both_numbers(tmp_path: Path):
    write_captions(ThreeMeanings(), spec(captions=3, layers=[{"captions": 3}]), tmp_path, Progress(disable=True))
    assert len(read_captions(tmp_path)) == 3
    with pytest.raises(UserError, match=r"no more captions of .* \d more are wanted for a pool of 8: lower"):
        many = spec(captions=8, layers=[{"captions": 8}])
        write_captions(ThreeMeanings(), many, tmp_path, Progress(disable=True))


def test_reserved_combinations_are_counted_where_the_oracle_is_sure(tmp_path: Path):
    """Images of captions that name their combination, half of them reserved: the count is about what they show."""
    from polygen_stream.base.seeding import rng
    from polygen_stream.micro.grammar import Style, describe
    from polygen_stream.micro.world import THINGS, Split, is_reserved, sample_single

    style = Style(opening=0, synonym=0, fronted=False, names_background=True, names_colour=True)
    scenes = [
        sample_single(rng("count", i), split, noun)
        for split in (Split.UNSEEN, Split.SEEN)
        for i, noun in enumerate(THINGS)
    ]
    texts = [describe(scene, style) for scene in scenes]
    assert sum(is_reserved(parse(text)) for text in texts) == 24
    pair = "a red cat left of a blue car"
    pool_spec = spec(captions=49, layers=[{"captions": 49}])
    write_by_hand(tmp_path, *texts, pair, negatives=(*texts, pair))
    pool = rendered(pool_spec, tmp_path)
    table = tmp_path / "results" / "x.csv"
    needed = {("micro/sdxl_turbo", False, 0): 49}
    update_counts([(pool, needed)], counts_path(table))
    values = {"name": "x", "title": "X", "pool": pool_spec.model_dump(mode="json"), "steps": 1, "images_per_step": 2,
              "baseline": "a", "learning_rates": [1e-3],
              "arms": [{"name": "a", "captions": 4, "positives": 1, "ensembles": [["micro/sdxl_turbo"]]}]}  # fmt: skip
    count = read_counts(counts_path(table), Experiment.model_validate(values))["micro/sdxl_turbo"]
    assert count.images == 48  # the pair is not one of them
    # 92 % of this generator's images show thing, colour and background of their caption (docs/micro.md).
    assert 36 <= count.sure <= 48
    assert count.reserved == pytest.approx(count.sure / 2, abs=5)
    assert read_counts(counts_path(table), Experiment.model_validate(values | {"pools": 2})) == {}
    # Other arms need fewer of the images: they are counted anew.
    update_counts([(pool, {("micro/sdxl_turbo", False, 0): 4})], counts_path(table))
    assert read_counts(counts_path(table), Experiment.model_validate(values))["micro/sdxl_turbo"].images == 4


def test_an_experiment_needs_the_images_of_its_arms_and_no_others():
    pool = spec(
        captions=2048,
        held_out=512,
        generators=["micro/sd15", "micro/sana"],
        layers=[{"captions": 1536, "copies": 2}, {"captions": 1024, "negatives": True}],
    )
    ensemble = [["micro/sd15", "micro/sana"]]
    arms = [
        {"name": "a", "captions": 600, "positives": 2, "ensembles": ensemble, "config": {"curriculum.end": 0.5}},
        {"name": "b", "captions": 1100, "positives": 1, "ensembles": [["micro/sana"]], "seeds": 2},
        {"name": "c", "captions": 512, "positives": 1, "views": 2, "ensembles": [["micro/sd15"]]},
    ]
    values = {"name": "x", "title": "X", "pool": pool.model_dump(mode="json"), "steps": 1, "images_per_step": 8,
              "baseline": "a", "learning_rates": [1e-3], "arms": arms}  # fmt: skip
    needed = Experiment.model_validate(values).images_of_pool(0)
    assert needed == {
        ("micro/sd15", False, 0): 600, ("micro/sd15", True, 0): 600, ("micro/sana", False, 0): 1100,
        ("micro/sana", True, 0): 600, ("micro/sd15", False, 1): 512,
    }  # fmt: skip

    def shards(generator: str) -> list[tuple[str, int, int]]:
        return [(shard.kind, shard.copy, shard.start) for shard in shards_of(pool, generator, needed)]

    both = [("negatives", 0, 0), ("negatives", 0, 512), ("held-out", 0, 1536)]
    first = [("positives", 0, 0), ("positives", 0, 512)]
    assert shards("micro/sd15") == [*first, ("positives", 1, 0), *both]
    assert shards("micro/sana") == [*first, ("positives", 0, 1024), *both]


def test_each_pool_has_the_images_of_the_runs_that_use_it():
    pool = spec(captions=64, generators=["micro/sd15", "micro/sana"], layers=[{"captions": 64}])
    arm = {"name": "a", "captions": 8, "positives": 1, "ensembles": [["micro/sd15"], ["micro/sana"]], "seeds": 2}
    values = {"name": "x", "title": "X", "pool": pool.model_dump(mode="json"), "steps": 1, "images_per_step": 8,
              "baseline": "a", "learning_rates": [1e-3], "arms": [arm], "pools": 2}  # fmt: skip
    experiment = Experiment.model_validate(values)
    assert experiment.images_of_pool(0) == {("micro/sd15", False, 0): 8}
    assert experiment.images_of_pool(1) == {("micro/sana", False, 0): 8}


def test_a_damaged_file_of_counts_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "x-reserved.json").write_text('{"pools": 3}')
    with pytest.raises(UserError, match=r"x-reserved\.json is damaged .*: remove it"):
        update_counts([], tmp_path / "x-reserved.json")
