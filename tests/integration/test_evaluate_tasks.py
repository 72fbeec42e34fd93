"""The evaluation tasks against the libraries that define them, on the same data, and on a user's own pictures."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from clip_benchmark.metrics import image_caption_selection, zeroshot_classification, zeroshot_retrieval
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit
from torch.utils.data import DataLoader

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate import standard_data
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import Encoder, load_encoder
from polygen_stream.evaluate.tasks import run_tasks
from polygen_stream.evaluate.user_data import caption_table, image_folder
from polygen_stream.micro import world
from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Split
from polygen_stream.train import model as our_models  # noqa: F401  # tells open_clip of the model `micro`

CLASSES = ("house", "tree", "fish", "car", "cup", "star")


def write_pictures(folder: Path, split: str, per_class: int, first: int = 0) -> None:
    """Painted pictures in FOLDER/SPLIT/CLASS/N.png, all different."""
    for noun in CLASSES:
        (folder / split / noun).mkdir(parents=True)
        for i in range(first, first + per_class):
            rng = np.random.default_rng([CLASSES.index(noun), i])
            picture = paint(world.sample_single(rng, Split.SEEN, noun), rng)
            Image.fromarray(picture).save(folder / split / noun / f"{i}.png")


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_pictures(folder, "train", 20)
    write_pictures(folder, "test", 10, first=20)
    lines = ("a photo of a {c}.", "a picture of a {c}", "there is a {c}")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def captions_file(tmp_path_factory) -> Path:
    """40 pictures with two captions each, one with three, and the negatives and pairs of other tasks."""
    folder = tmp_path_factory.mktemp("captions")
    rng = np.random.default_rng(3)
    rows = []
    for i in range(40):
        scene = world.sample_scene(rng, Split.SEEN)
        Image.fromarray(paint(scene, rng)).save(folder / f"{i}.png")
        texts = {describe(scene, Style.sample(rng)) for _ in range(12)}
        rows += [(f"{i}.png", text) for text in sorted(texts)[: 3 if i == 0 else 2]]
    with (folder / "captions.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([("image", "caption"), *rows])
    return folder / "captions.tsv"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A fixed open_clip model: micro's architecture with weights of its own, as a plain state dict."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("weights") / "fixed.pt"
    torch.save(open_clip.create_model("micro", load_weights=False).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def encoder(weights) -> Encoder:
    return load_encoder("micro", str(weights))


def scores(encoder: Encoder, task: str, root: str | None = None) -> dict[str, float]:
    [found] = run_tasks(Data(encoder, root), [task], lambda name: None).values()
    return {name: score.score for name, score in found.items()}


def test_zero_shot_equals_clip_benchmark(encoder, own_folder):
    labelled = image_folder(own_folder, "test", encoder.transform)
    templates, batches = list(labelled.templates), DataLoader(labelled.dataset, batch_size=16)
    classifier = zeroshot_classification.zero_shot_classifier(
        encoder.model, encoder.tokenizer, labelled.classes, templates, "cpu", amp=False
    )
    logits, target = zeroshot_classification.run_classification(encoder.model, classifier, batches, "cpu", amp=False)
    # Its `accuracy`, which takes these, converts arrays of one element to float, which numpy 2.4 refuses.
    theirs = {f"acc{k}": (logits.topk(k).indices == target[:, None]).any(1).float().mean().item() for k in (1, 5)}
    theirs["mean_per_class_recall"] = balanced_accuracy_score(target, logits.argmax(1))
    ours = scores(encoder, f"zero_shot:{own_folder}")
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert 0 < ours["acc1"] < 1


def test_retrieval_equals_clip_benchmark(encoder, captions_file):
    def collate(rows):
        return torch.stack([picture for picture, _ in rows]), [texts for _, texts in rows]

    dataset = caption_table(captions_file, encoder.transform).dataset
    theirs = zeroshot_retrieval.evaluate(
        encoder.model, DataLoader(dataset, batch_size=16, collate_fn=collate), encoder.tokenizer, "cpu", amp=False,
        recall_k_list=[1, 5, 10],
    )  # fmt: skip
    ours = scores(encoder, f"retrieval:{captions_file}")
    for k in (1, 5, 10):
        assert ours[f"t2i_r{k}"] == pytest.approx(theirs[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert ours[f"i2t_r{k}"] == pytest.approx(theirs[f"text_retrieval_recall@{k}"], abs=1e-6)
    assert 0 < ours["i2t_r10"] < 1


def test_chance_of_retrieval_is_what_a_random_encoder_gets(captions_file, encoder):
    found = run_tasks(Data(encoder), [f"retrieval:{captions_file}"], lambda name: None)[f"retrieval:{captions_file}"]
    rng = np.random.default_rng(0)
    owner = np.array([0, 0, 0, *np.repeat(np.arange(1, 40), 2)])
    hits = [len(set(owner[rng.permutation(81)[:10]]) & {i}) for _ in range(3000) for i in (5,)]
    assert found["i2t_r10"].chance == pytest.approx(np.mean(hits), abs=0.02)
    assert found["t2i_r5"].chance == pytest.approx(5 / 40)


def test_pair_scores_equal_clip_benchmark(encoder, tmp_path):
    rng = np.random.default_rng(7)
    rows = []
    for i in range(30):
        scene = world.sample_single(rng, Split.SEEN, CLASSES[i % 6])
        other = world.sample_single(rng, Split.SEEN, CLASSES[(i + 1) % 6])
        for j, one in enumerate((scene, other)):
            Image.fromarray(paint(one, rng)).save(tmp_path / f"{i}-{j}.png")
        texts = [describe(one, Style.sample(rng)) for one in (scene, other)]
        rows.append((f"{i}-0.png", texts[0], f"{i}-1.png", texts[1]))
    head = "image_0\tcaption_0\timage_1\tcaption_1"
    (tmp_path / "pairs.tsv").write_text("\n".join([head, *("\t".join(row) for row in rows)]) + "\n")
    batches = [
        (
            torch.stack(
                [torch.stack([encoder.transform(Image.open(tmp_path / row[i])) for i in (0, 2)]) for row in rows]
            ),
            [[row[1], row[3]] for row in rows],
        )
    ]
    theirs = image_caption_selection.evaluate(encoder.model, batches, encoder.tokenizer, "cpu", amp=False)
    ours = scores(encoder, f"pairs:{tmp_path / 'pairs.tsv'}")
    # theirs calls "image" what picks the picture, as Winoground does
    assert ours == pytest.approx(
        {"text": theirs["text_acc"], "image": theirs["image_acc"], "group": theirs["acc"]}, abs=1e-6
    )


def test_linear_probe_equals_scikit_learn(encoder, own_folder):
    data = Data(encoder)
    train, test = data.labelled(str(own_folder), "train"), data.labelled(str(own_folder), "test")
    x, y, asked = train.features.numpy(), train.labels.numpy(), test.features.numpy()
    rows, held = next(StratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(x, y))
    best, chosen = -1.0, None
    for cost in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0):
        accuracy = LogisticRegression(C=cost, max_iter=1000).fit(x[rows], y[rows]).score(x[held], y[held])
        if accuracy > best:
            best, chosen = accuracy, cost
    expected = LogisticRegression(C=chosen, max_iter=1000).fit(x, y).score(asked, test.labels.numpy())
    assert scores(encoder, f"linear_probe:{own_folder}")["acc1"] == expected
    assert expected > 1.5 / len(CLASSES)


def test_a_users_folder_end_to_end(own_folder, weights, tmp_path):
    done = evaluate(
        "micro", "--pretrained", weights, "--json", tmp_path / "scores.json",
        "--tasks", f"zero_shot:{own_folder},linear_probe:{own_folder},few_shot:{own_folder}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert found[f"zero_shot:{own_folder}"]["acc1"]["n"] == 60
    assert found[f"linear_probe:{own_folder}"]["acc1"]["score"] > found[f"linear_probe:{own_folder}"]["acc1"]["chance"]
    assert found[f"few_shot:{own_folder}"]["5_shot"]["low"] > 0
    assert "interval" in done.stdout


@pytest.fixture(scope="module")
def fashion_root(tmp_path_factory) -> Path:
    """Fashion-MNIST as Debian's dataset-fashion-mnist installs it; without it, scikit-learn's digits in its files."""
    installed = Path("/usr/share/datasets/fashion-mnist")
    root = tmp_path_factory.mktemp("root")
    if installed.is_dir():
        (root / "fashion_mnist").symlink_to(installed)
        return root
    raw = root / "fashion_mnist" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    digits = load_digits()
    pictures = np.kron(digits.images, np.ones((1, 3, 3))).repeat(1, 0)[:, :24, :24]
    pictures = np.pad(pictures * 15.9, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    for prefix, rows in (("train", slice(0, 1200)), ("t10k", slice(1200, None))):
        for kind, array in (("images-idx3", pictures[rows]), ("labels-idx1", digits.target[rows].astype(np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            packed = head + array.tobytes()
            name = f"{prefix}-{kind}-ubyte"
            (raw / name).write_bytes(packed)
            (raw / f"{name}.gz").write_bytes(gzip.compress(packed))
    return root


def test_fashion_mnist_end_to_end(fashion_root, weights, tmp_path):
    """Untrained random features separate clothes (or digits) far above chance in a probe, and not zero-shot."""
    done = evaluate(
        "micro", "--pretrained", weights, "--data", fashion_root, "--json", tmp_path / "scores.json",
        "--tasks", "zero_shot:fashion_mnist,few_shot:fashion_mnist",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert found["zero_shot:fashion_mnist"]["acc1"]["n"] in (597, 10_000)
    assert found["zero_shot:fashion_mnist"]["acc1"]["score"] < 0.35
    assert found["few_shot:fashion_mnist"]["5_shot"]["low"] > 0.25


def evaluate(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "polygen_stream", "evaluate", "--threads", "1", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_idx_files_read_as_torchvision_reads_them(tmp_path):
    from torchvision.datasets import FashionMNIST

    rng = np.random.default_rng(0)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 30), ("t10k", 20)):
        pictures, labels = (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            rng.integers(0, 10, count, dtype=np.uint8),
        )
        for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(head + array.tobytes())
    for split in ("train", "test"):
        theirs = FashionMNIST(str(tmp_path), train=split == "train")
        ours = standard_data.idx_images(tmp_path, split, lambda picture: np.asarray(picture))
        assert len(ours) == len(theirs)
        for (picture, label), (other, expected) in zip(ours, theirs, strict=True):
            assert label == expected
            assert (picture[..., 0] == np.asarray(other)).all()
    broken = raw / "t10k-images-idx3-ubyte"
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(UserError, match="cut short"):
        standard_data.idx_images(tmp_path, "test", np.asarray)


def test_the_micro_world_has_all_five_tasks(encoder):
    """Random features: a probe learns much from them, zero-shot is chance."""
    data = Data(encoder)
    found = run_tasks(data, ["zero_shot:micro", "linear_probe:micro", "few_shot:micro", "micro"], lambda name: None)
    assert found["zero_shot:micro"]["acc1"] == found["micro"]["zero_shot_things"]
    assert found["linear_probe:micro"]["acc1"].low > 3 / 24
    assert found["few_shot:micro"]["5_shot"].low > 1.5 / 24
    assert found["linear_probe:micro"]["acc1"].n == 480
