"""What a trained model of an experiment is measured on: with and without captions for the generator probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polygen_stream.evaluate.micro_suite import MicroSuite, build_suite, classification
from polygen_stream.experiment.measures import EvaluationSets, measure
from polygen_stream.experiment.pool import ImagePool, shard_path, shards_of
from polygen_stream.experiment.results import ITEMS, SCORES, TRANSFER
from polygen_stream.experiment.spec import PROBE_CAPTIONS, PoolSpec
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Split, sample_scene
from polygen_stream.train.model import create_clip


@pytest.fixture(scope="module")
def suite() -> MicroSuite:
    return build_suite(Split.UNSEEN, 1, 20)


def painted_pool(folder: Path, held_out: int, generators: tuple[str, ...]) -> ImagePool:
    """A pool of one trainable caption, whose images are painted: those of every generator darker than the last's."""
    spec = PoolSpec.model_validate(
        {
            "seed": 0,
            "captions": held_out + 1,
            "held_out": held_out,
            "generators": generators,
            "layers": [{"captions": 1}],
        }
    )
    (folder / "captions.jsonl").touch()
    for number, generator in enumerate(generators, 1):
        for shard in shards_of(spec, generator):
            rng = np.random.default_rng(shard.start)
            images = np.stack([paint(sample_scene(rng), rng) for _ in range(shard.start, shard.stop)])
            file = shard_path(folder, generator, shard)
            file.parent.mkdir(parents=True)
            np.save(file, images // number)
    return ImagePool(spec, folder)


@pytest.mark.parametrize(
    ("held_out", "generators", "probed"),
    [(PROBE_CAPTIONS, 4, True), (PROBE_CAPTIONS, 2, True), (0, 2, False), (PROBE_CAPTIONS, 1, False)],
)
def test_the_generator_probe_is_a_score_where_several_generators_have_held_out_captions(
    held_out: int, generators: int, probed: bool, suite: MicroSuite, tmp_path: Path
):
    names = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")[:generators]
    sets = EvaluationSets(suite, suite, classification(Split.SEEN, 5), painted_pool(tmp_path, held_out, names))
    torch.manual_seed(0)
    model, tokenizer = create_clip("micro")
    found = measure(model.eval(), tokenizer, sets)
    assert found.scores.keys() == {*SCORES} - {TRANSFER} - (set() if probed else {"generator_probe"})
    assert found.correct.keys() == ITEMS.keys()
    assert not probed or found.scores["generator_probe"] > 1 / generators
