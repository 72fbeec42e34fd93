"""Standard datasets by the name clip_benchmark gives them, from the user's folder or, as WebDatasets, from a URL.

clip_benchmark builds them and knows their class names and prompt templates; WebDatasets bring their own. Nothing is
downloaded here: where its builder would call wget, the missing file is named first.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate import web_dataset
from polygen_stream.evaluate.idx_files import idx_images
from polygen_stream.evaluate.prompts import check_templates
from polygen_stream.evaluate.user_data import CaptionedImages, LabelledImages, Transform

WEB = "wds/"
FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
RETRIEVAL = ("mscoco_captions", "flickr30k", "flickr8k")
# What a split for training is called where it is not "train".
TRAIN_SPLITS = {"pets": "trainval", "fgvc_aircraft": "trainval"}
# clip_benchmark gives the same pictures for every split of these.
NO_SPLITS = ("sun397", "caltech101", "eurosat")
# What has to lie in a dataset's folder, beside what the library itself checks without downloading.
NEEDED = {
    "mscoco_captions": ("val2014", "coco_test_karpathy.json"),
    "flickr30k": ("flickr30k_test_karpathy.txt",),
    "flickr8k": ("flickr8k_test_karpathy.txt",),
}
WHERE = {
    "mscoco_captions": "val2014.zip of cocodataset.org, and release 1.0.0 of mehdidc/retrieval_annotations",
    "flickr30k": "the pictures of Flickr30k, and release 1.0.0 of mehdidc/retrieval_annotations",
    "flickr8k": "the pictures of Flickr8k, and release 1.0.0 of mehdidc/retrieval_annotations",
    "fashion_mnist": "Debian's package dataset-fashion-mnist, or torchvision.datasets.FashionMNIST",
    "imagenet1k": "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz of image-net.org",
}


def labelled(name: str, root: str, split: str, transform: Transform) -> LabelledImages:
    """A dataset with classes. split: "train" or "test".

    Raises:
        UserError: unknown, not there, or without such a split.
    """
    folder = dataset_folder(name, root)
    if name == "fashion_mnist":
        return LabelledImages(idx_images(Path(folder), split, transform), FASHION_CLASSES, ("a photo of a {c}.",))
    if name.startswith(WEB):
        return web_dataset.labelled(folder, split, transform)
    if split == "train":
        if name in NO_SPLITS:
            raise UserError(
                f"{name} has no split of its own for training: use wds/vtab/{name}, whose splits are VTAB's, or a"
                " folder of pictures with train/ and test/"
            )
        split = TRAIN_SPLITS.get(name, "train")
    dataset = _build(name, folder, split, transform, "zeroshot_classification")
    if getattr(dataset, "classes", None) is None or getattr(dataset, "templates", None) is None:
        raise UserError(f"{name} in {folder} names no classes or no templates, so it cannot be classified zero-shot")
    templates = dataset.templates
    if not isinstance(templates, dict):
        check_templates(templates, f"the prompts of {name}")
    return LabelledImages(dataset, list(dataset.classes), templates)


def captioned(name: str, root: str, transform: Transform) -> CaptionedImages:
    """The test split of a dataset with captions.

    Raises:
        UserError: unknown, or not there.
    """
    if name not in RETRIEVAL and not name.startswith(WEB):
        raise UserError(f"{name} has no captions: use {', '.join(RETRIEVAL)}, wds/NAME, or a TSV file")
    if name.startswith(WEB):
        return web_dataset.captioned(dataset_folder(name, root), "test", transform)
    return CaptionedImages(_build(name, dataset_folder(name, root), "test", transform, "zeroshot_retrieval"))


def dataset_folder(name: str, root: str) -> str:
    """ROOT/NAME, with dashes for slashes and without a leading wds/; or ROOT with {dataset_cleaned} filled in.

    Raises:
        UserError: no such folder, or something that has to lie in it does not.
    """
    short = name.removeprefix(WEB)
    cleaned = short.replace("/", "-")
    folder = root.replace("{dataset}", short).replace("{dataset_cleaned}", cleaned)
    if folder == root:
        folder = f"{root.rstrip('/')}/{cleaned}"
    if "://" in folder:
        if not name.startswith(WEB):
            raise UserError(f"{name}: only WebDatasets can be read from a URL such as {folder}; say wds/{name}")
        return folder
    missing = [part for part in ("", *NEEDED.get(name, ())) if not (Path(folder) / part).exists()]
    if missing:
        source = f"; it comes from {WHERE[name]}" if name in WHERE else ""
        raise UserError(f"{name}: there is no {Path(folder) / missing[0]}: put the dataset there{source}")
    return folder


def _build(name: str, folder: str, split: str, transform: Transform, task: str):
    try:
        from clip_benchmark.datasets.builder import build_dataset, dataset_collection
    except ImportError:
        raise UserError(
            f"{name} is read by clip_benchmark, which is not installed: pip install 'polygen-stream[evaluate]'"
        ) from None
    try:
        return build_dataset(name, root=folder, transform=transform, split=split, download=False, task=task)
    except ValueError as problem:
        if "Unsupported dataset" not in str(problem):
            raise UserError(f"{name} in {folder}: {' '.join(str(problem).split())}") from None
        known = sorted({one for group in dataset_collection.values() for one in group} | {"cifar10", "cifar100"})
        near = get_close_matches(name, known, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise UserError(f"clip_benchmark knows no dataset {name}, and there is no such folder or file{hint}") from None
    except Exception as problem:  # torchvision: "Dataset not found or corrupted. ..."; parsers raise their own
        reason = " ".join(str(problem).split(" You can use download=True")[0].split()) or type(problem).__name__
        raise UserError(f"{name} in {folder}: {reason}") from None
