"""The reader: shards -> groups with pictures in the ring, in order, over and over; and shards that do not do."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig, load_config
from polygen_stream.export.reading import read_tasks
from polygen_stream.export.shards import ShardSample, ShardWriter
from polygen_stream.launch.preflight import check_shards
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.producers import reader
from polygen_stream.ring import Ring
from polygen_stream.ring.follow import Follower
from polygen_stream.roles.role import RoleContext

PNG_HEADER = b"\x89PNG\r\n\x1a\n"
GENERATORS = ("micro/sd15", "micro/sana")


def config_for(folder: Path, **changes: str) -> RunConfig:
    return load_config(
        None,
        {
            "captions.source": "shards", "captions.shards": str(folder), "captions.target": "0",
            "generators.recipes": ",".join(GENERATORS), "generators.positives": "2", "generators.negatives": "1",
            "ring.slots": "64", "ring.min_fill": "4", "train.batch": "4",
        } | changes,
    )  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """read(config, ring or None) -> the ring after a reader has ended."""
    rings = []

    def run(config: RunConfig, ring: Ring | None = None) -> Ring:
        if ring is None:
            rings.append(ring := Ring.create(ring_spec(config)))
            ring.register("reader", "reader")
        reader.main(RoleContext(config, tmp_path, ring, "reader", None))
        return ring

    yield run
    for ring in rings:
        ring.close()


def picture(task: int, member: int) -> np.ndarray:
    return np.random.default_rng([task, member]).integers(0, 256, (32, 32, 3), np.uint8)


def samples(task: int, positives: int = 2, negatives: int = 1) -> list[ShardSample]:
    """Pictures by both generators in turn; the twins have the seeds of the last positives."""
    found = [ShardSample(task, m, False, f"caption {task}", m % 2, 10 * task + m) for m in range(positives)]
    twins = [
        ShardSample(
            task, positives + m, True, f"negative {task}", (positives - 1 - m) % 2, 10 * task + positives - 1 - m
        )
        for m in range(negatives)
    ]
    return found + twins


def write(folder: Path, *tasks: list[ShardSample]) -> Path:
    writer = ShardWriter(folder, GENERATORS, per_shard=7)
    for task in tasks:
        writer.write(task, [picture(sample.task_id, sample.member) for sample in task])
    writer.publish()
    return folder


def groups(ring: Ring):
    return Follower(ring).next(100) or []


def test_what_was_written_is_in_the_ring(read, tmp_path):
    """Plain and pair groups under new task ids, with their own texts, pictures, generators and seeds."""
    shards = write(tmp_path / "s", *(samples(5 + 2 * i, negatives=i % 2 or 0) for i in range(8)))
    ring = read(config_for(shards, **{"curriculum.end": "0.25"}))
    found = groups(ring)
    assert [group.task_id for group in found] == list(range(8))
    for i, group in enumerate(found):
        task = 5 + 2 * i
        assert group.caption == f"caption {task}"
        assert group.negative_caption == (f"negative {task}" if i % 2 else None)
        by_seed = {(seed, negative): image for seed, negative, image in zip(
            group.seeds, group.negative.tolist(), group.images, strict=True)}  # fmt: skip
        for sample in samples(task, negatives=i % 2):
            assert np.array_equal(by_seed[sample.seed, sample.negative], picture(task, sample.member))
    stats = ring.stats()
    assert stats.finished_opening and stats.groups_opened == 8, "the ring keeps all of them: once is enough"
    assert stats.images_committed == {"micro/sd15": 8, "micro/sana": 8 + 4}


def test_pictures_are_spread_over_generators_and_twins_go_with_their_positives(read, tmp_path):
    shards = write(tmp_path / "s", *(samples(i, positives=6, negatives=6) for i in range(8)))
    for group in groups(read(config_for(shards))):
        assert sorted(group.generators[:2]) == [0, 1]
        assert group.seeds[2] in group.seeds[:2], "the negative is the twin of a chosen positive"


def test_the_target_is_reached_by_reading_again(read, tmp_path):
    """A ring that evicts is given the shards again, as tasks of their own."""
    shards = write(tmp_path / "s", *map(samples, range(6)))
    ring = read(config_for(shards, **{"captions.target": "15", "ring.max_age": "1000000"}))
    assert [group.task_id for group in groups(ring)] == list(range(15))
    assert [group.caption for group in groups(ring)] == [f"caption {i % 6}" for i in range(15)]


def test_a_second_reader_fills_what_the_first_left_open_and_goes_on(read, tmp_path, monkeypatch):
    shards = write(tmp_path / "s", *map(samples, range(6)))
    config = config_for(shards, **{"captions.target": "15", "ring.max_age": "1000000"})
    whole = groups(read(config))

    class Killed(BaseException):
        pass

    def die(ring, claims, chosen):
        if claims[0].task_id == 9:
            raise Killed
        commit(ring, claims, chosen)

    commit, ring = reader._commit, Ring.create(ring_spec(config))
    ring.register("reader", "reader")
    monkeypatch.setattr(reader, "_commit", die)
    with pytest.raises(Killed):
        read(config, ring)
    monkeypatch.setattr(reader, "_commit", commit)
    # What the dead one had claimed is wanted again.
    ring._control.columns.process_start[0] += 1
    successor = Ring(ring._control)
    ring.reap()
    successor.register("reader", "reader")
    read(config, successor)
    again = groups(successor)
    assert [(g.task_id, g.seeds) for g in again] == [(g.task_id, g.seeds) for g in whole]
    assert all(np.array_equal(a.images, b.images) for a, b in zip(again, whole, strict=True))
    assert ring.check() == []
    ring.close()


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size, which is all that has to be looked at."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT")
    sized = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return PNG_HEADER + b"".join(sized)


def one_by_hand(folder: Path, **fields) -> Path:
    """A shard as another program might write it; fields replace or (None) remove those of its sample."""
    folder.mkdir()
    data = io.BytesIO()
    Image.fromarray(picture(0, 0)).save(data, "png")
    about = {"task": 0, "member": 0, "polarity": "positive", "generator": "micro/sana", "seed": 1}
    about |= fields.pop("about", {})
    sample = {"__key__": "a", "png": data.getvalue(), "txt": "a red car"}
    sample |= {
        "json": json.dumps({name: value for name, value in about.items() if value is not None}).encode()
    } | fields
    with webdataset.TarWriter(str(folder / "0.tar")) as tar:
        tar.write({name: value for name, value in sample.items() if value is not None})
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"png": None}, "sample a has no image (png, jpg): a sample is an image (png, jpg), its txt and its json"),
        ({"txt": None}, "sample a has no txt:"),
        ({"json": None}, "sample a has no json:"),
        ({"json": b"[]"}, "sample a: its json is no JSON object"),
        ({"about": {"seed": None}}, "sample a: its json has no seed that can be used"),
        ({"about": {"polarity": "maybe"}}, "sample a: its json has no polarity or seed that can be used"),
        (
            {"about": {"generator": "dall-e"}},
            "sample a was made by dall-e, which is not among generators.recipes = mic",
        ),
        ({"png": b"nothing"}, "sample a as a picture: it is in no format that Pillow knows"),
        ({"png": PNG_HEADER + b"nothing"}, "sample a as a picture: "),
        ({"png": png_of(15000, 14000)}, "sample a has more than 178956970 pixels: scale it down"),
        ({"png": png_of(12000, 9000)}, "sample a is 12000x9000 pixels, but ring.image_size = 32"),
        ({"txt": b"\xff"}, "sample a: its txt is not UTF-8"),
        ({"txt": b""}, "sample a has an empty caption"),
        ({"txt": b" \n"}, "sample a has an empty caption"),
        ({"json": b"[" * 9999}, "sample a: its json is no JSON object"),
    ],
)
def test_a_sample_that_is_not_as_it_should_be_is_named(read, tmp_path, fields, message):
    shards = one_by_hand(tmp_path / "s", **fields)
    with pytest.raises(UserError) as refused:
        read(config_for(shards, **{"generators.positives": "1"}))
    assert f"0.tar: {message}" in str(refused.value)


def test_a_key_that_comes_twice_is_named(read, tmp_path):
    shards = one_by_hand(tmp_path / "s")
    with tarfile.open(shards / "0.tar") as tar:
        files = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(shards / "0.tar", "w") as tar:
        for member, data in files + files:
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match=r"0\.tar: a\.\w+ comes twice in one sample"):
        read(config_for(shards))


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b\x08nothing", b"\xfd7zXZ\0nothing", b"BZh9nothing"])
def test_a_file_that_is_no_tar_is_damaged(read, tmp_path, content):
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"0\.tar is damaged"):
        read(config_for(tmp_path))


def test_a_link_to_nothing_is_refused_before_anything_starts(read, tmp_path):
    (tmp_path / "0.tar").symlink_to("/nowhere.tar")
    with pytest.raises(UserError, match=r"0\.tar is no file, or a link to none: move it away"):
        check_shards(config_for(tmp_path))
    with pytest.raises(UserError, match=r"0\.tar is no file, or a link to none: move it away"):
        read(config_for(tmp_path))


def test_a_caption_may_have_a_byte_order_mark(read, tmp_path):
    shards = one_by_hand(tmp_path / "s", txt="a red car".encode("utf-8-sig"))
    [[sample]] = read_tasks(shards, GENERATORS)
    assert sample.text == "a red car"


def test_jpeg_does_too(read, tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(data, "jpeg")
    shards = one_by_hand(tmp_path / "s", png=None, jpg=data.getvalue())
    with pytest.raises(UserError, match="1 different captions are too few for a batch of 4"):
        read(config_for(shards, **{"generators.positives": "1"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ring.image_size": "64"}, "is 32x32 pixels, but ring.image_size = 64: set the shards' own size"),
        (
            {"generators.positives": "3"},
            "0 tasks can be used, 12 have fewer images of their caption than generators.positives = 3",
        ),
        ({"ring.caption_bytes": "16"}, "12 a text longer than ring.caption_bytes = 16"),
        ({"train.batch": "16", "ring.min_fill": "16"}, "12 different captions are too few for a batch of 16"),
        ({"train.batch": "12", "ring.min_fill": "12"}, "have 4 captions with a hard negative, but a batch of train.ba"),
    ],
)
def test_shards_that_do_not_do_are_refused_with_the_numbers(read, tmp_path, settings, message):
    long = [ShardSample(i, m, False, f"a caption of the task {i}", m, m) for i in range(8) for m in range(2)]
    plain = [long[2 * i : 2 * i + 2] for i in range(8)]
    pairs = [[*long[2 * i : 2 * i + 2], ShardSample(i, 2, True, f"a negative of the task {i}", 0, 0)] for i in range(4)]
    pairs = [[*(ShardSample(8 + i, s.member, s.negative, f"{s.text}!", s.generator, s.seed) for s in group)]
             for i, group in enumerate(pairs)]  # fmt: skip
    shards = write(tmp_path / "s", *plain, *pairs)
    with pytest.raises(UserError) as refused:
        read(config_for(shards, **{"ring.slots": "256", **settings}))
    assert message in str(refused.value)


def test_shuffled_shards_are_told_from_good_ones(read, tmp_path):
    whole = [sample for task in map(samples, range(8)) for sample in task]
    shuffled = [whole[i] for i in np.random.default_rng(0).permutation(len(whole))]
    shards = write(tmp_path / "s", *([sample] for sample in shuffled))
    with pytest.raises(UserError, match=r"too few for a batch.*those of a task have to follow each other"):
        read(config_for(shards))


def test_two_captions_of_one_task_are_refused(read, tmp_path):
    shards = write(tmp_path / "s", [*samples(0), ShardSample(0, 9, False, "something else", 0, 4)])
    with pytest.raises(UserError, match=r"has the caption 'something else', but .* has 'caption 0'"):
        read(config_for(shards))


def test_a_damaged_shard_is_refused(read, tmp_path):
    shards = write(tmp_path / "s", *map(samples, range(6)))
    with (shards / "000001.tar").open("r+b") as file:
        file.truncate(700)
    with pytest.raises(UserError, match="is damaged"):
        read(config_for(shards))


@pytest.mark.parametrize(("make", "message"), [(False, "no such folder"), (True, r"no \*.tar in it")])
def test_a_folder_without_shards_is_refused_before_anything_starts(tmp_path, make, message):
    if make:
        (tmp_path / "s").mkdir()
    with pytest.raises(UserError, match=message):
        check_shards(config_for(tmp_path / "s"))


def test_the_source_and_its_folder_go_together():
    with pytest.raises(UserError, match=r"needs captions.shards.*--source shards:DIR sets both"):
        load_config(None, {"captions.source": "shards"})
    with pytest.raises(UserError, match=r"captions.shards = 'x' has no meaning with captions.source = 'grammar'"):
        load_config(None, {"captions.source": "grammar", "captions.shards": "x"})
