"""Features of datasets: each dataset is opened and encoded once, however many tasks ask for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate import micro_suite, standard_data, user_data
from polygen_stream.evaluate.batches import read_batches
from polygen_stream.evaluate.class_folders import counted, listed
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.tables import is_table
from polygen_stream.evaluate.user_data import CaptionedImages, LabelledImages, Transform
from polygen_stream.micro import world
from polygen_stream.micro.world import Split

DATA_OPTION = "--data DIR (evaluate.data of a run)"


@dataclass(frozen=True)
class LabelledFeatures:
    """features float32 [n, d], labels int64 [n]; `prompts[c]` are the texts of class c."""

    features: Tensor
    labels: Tensor
    classes: list[str]
    prompts: list[list[str]]


@dataclass(frozen=True)
class CaptionedFeatures:
    """images float32 [n, d], texts float32 [t, d]; owner int64 [t] is the picture of each text."""

    images: Tensor
    texts: Tensor
    owner: Tensor


def check_classes(name: str, classes: Sequence[str]) -> None:
    """Refuse a dataset in which there is nothing to tell apart.

    Raises:
        UserError: it has one class.
    """
    if len(classes) < 2:
        raise UserError(f"{name} has one class, {listed(classes)}, and no other to tell it from: add one")


def open_labelled(name: str, split: str, root: str | None, transform: Transform) -> LabelledImages:
    """Open a folder of pictures or a standard dataset; pictures are read later.

    Raises:
        UserError: it is not there, has no such split, or cannot be read.
    """
    if os.path.isfile(name):
        raise UserError(f"{name} is a file: classes need a folder with one folder of pictures per class")
    if Path(name).is_dir():
        return user_data.image_folder(Path(name), split, transform)
    return standard_data.labelled(name, _in_root(name, root), split, transform)


def open_captioned(name: str, root: str | None, transform: Transform) -> CaptionedImages:
    """Open a table of (image, caption) or a standard dataset; pictures are read later.

    Raises:
        UserError: it is not there, or has no captions.
    """
    if is_table(name):
        return user_data.caption_table(Path(name), transform)
    if os.path.isdir(name):
        raise UserError(f"{name} is a folder: retrieval needs a table of image and caption")
    return standard_data.captioned(name, _in_root(name, root), transform)


def _in_root(name: str, root: str | None) -> str:
    if root is None:
        raise UserError(f"{name} is no folder or file here: if it is a standard dataset, say where with {DATA_OPTION}")
    return root


class Data:
    """One encoder's features of the datasets below a root.

    Attributes:
        read: of each dataset, by name, what was read of it, what was left out, and what its scores do not say.
        correct: of datasets whose tasks tell, whether each picture was right: {dataset: {picture: right}}.

    Args:
        root: folder of datasets, or a URL template with {dataset_cleaned}; None when only paths are asked for.
        workers: processes that decode pictures; 0 = this one.
    """

    def __init__(self, encoder: Encoder, root: str | None = None, workers: int = 0) -> None:
        self.encoder, self.root, self.workers = encoder, root, workers
        self.read: dict[str, list[str]] = {}
        self.correct: dict[str, dict[str, bool]] = {}
        self._labelled: dict[tuple[str, str], LabelledFeatures] = {}

    def labelled(self, name: str, split: str = "test") -> LabelledFeatures:
        """name: a folder of pictures, a standard dataset, or "micro".

        Raises:
            UserError: it is not there, has no such split, has several labels per picture, or cannot be read.
        """
        if (name, split) not in self._labelled:
            self._labelled[name, split] = self._encode_labelled(name, split)
        return self._labelled[name, split]

    def captioned(self, name: str) -> CaptionedFeatures:
        """name: a table of (image, caption), or a standard dataset.

        Raises:
            UserError: it is not there, or has no captions.
        """
        found = open_captioned(name, self.root, self.encoder.transform)
        self.note(name, *found.read)
        captions: list[str] = []
        owner: list[int] = []
        seen = 0

        def take(targets: list[Any]) -> None:
            nonlocal seen
            for texts in targets:
                captions.extend(texts)
                owner.extend([seen] * len(texts))
                seen += 1

        images = self._encode(name, found.dataset, take)
        different = len(set(captions)) - len(self.encoder.tokens(sorted(set(captions))).unique(dim=0))
        if different:
            self.note(name, f"{different} captions have the same tokens as another one, and lose against it")
        self.note_cut(name, captions)
        return CaptionedFeatures(images, self.encoder.texts(captions), torch.tensor(owner))

    def pictures(self, name: str, files: list[Path]) -> Tensor:
        """Features [n, d] of picture files of a dataset; a file that is given twice is encoded once."""
        unique = list(dict.fromkeys(files))
        place = {file: i for i, file in enumerate(unique)}
        dataset = user_data.ImageFiles(unique, [0] * len(unique), self.encoder.transform)
        features = self._encode(name, dataset, lambda targets: None)
        return features[[place[file] for file in files]]

    def note_cut(self, name: str, texts: list[str]) -> None:
        """Note how many texts of a dataset are too long for the model."""
        if cut := int(self.encoder.cut(texts).sum()):
            length = self.encoder.tokens(texts[:1]).shape[1]
            self.note(name, f"{cut} of {len(texts)} texts are longer than the model's context of {length} and were cut")

    def note_equal(self, name: str, what: str, first: list[str], second: list[str]) -> None:
        """Note in how many rows two texts are the same to the model."""
        if same := int((self.encoder.tokens(first) == self.encoder.tokens(second)).all(1).sum()):
            self.note(name, f"in {same} of {len(first)} rows {what} have the same tokens, which counts as wrong")

    def class_features(self, name: str, found: LabelledFeatures) -> Tensor:
        """Features [c, d] of the classes of a dataset, from their prompts.

        Raises:
            UserError: there is one class, or all have the same prompts, as far as the model reads.
        """
        check_classes(name, found.classes)
        self.note_cut(name, [prompt for prompts in found.prompts for prompt in prompts])
        by_tokens: dict[bytes, list[str]] = {}
        for called, prompts in zip(found.classes, found.prompts, strict=True):
            by_tokens.setdefault(self.encoder.tokens(prompts).numpy().tobytes(), []).append(called)
        alike = [names for names in by_tokens.values() if len(names) > 1]
        if len(by_tokens) == 1 and alike:
            raise UserError(f"{name}: the prompts of all classes have the same tokens: put {{c}} further ahead in them")
        for names in alike:
            self.note(name, f"the prompts of {listed(names)} have the same tokens, and none of these classes wins")
        return self.encoder.classes(found.prompts)

    def note(self, name: str, *lines: str) -> None:
        """Add lines to what was read of a dataset; each of them once."""
        kept = self.read.setdefault(name, [])
        kept.extend(line for line in dict.fromkeys(lines) if line not in kept)
        if not kept:
            del self.read[name]

    def _encode_labelled(self, name: str, split: str) -> LabelledFeatures:
        if name == "micro":
            return self._micro(split)
        found = open_labelled(name, split, self.root, self.encoder.transform)
        self.note(name, *found.read)
        labels: list[int] = []

        def take(targets: list[Any]) -> None:
            try:
                labels.extend(int(label) for label in targets)
            except (TypeError, ValueError):
                raise UserError(f"{name} has several labels per picture, which no task here scores") from None

        features = self._encode(name, found.dataset, take)
        if wrong := [label for label in labels if not 0 <= label < len(found.classes)]:
            raise UserError(f"{name}: a picture has the label {wrong[0]}, but there are {len(found.classes)} classes")
        if isinstance(found.templates, dict):
            prompts = [list(found.templates[c]) for c in found.classes]
        else:
            prompts = [[template.format(c=c) for template in found.templates] for c in found.classes]
        return LabelledFeatures(features, torch.tensor(labels), list(found.classes), prompts)

    def _encode(self, name: str, dataset: Dataset, take: Callable[[list[Any]], None]) -> Tensor:
        """Features [n, d] of the pictures of a dataset; `take` gets the targets of each batch."""

        def pictures() -> Iterator[Tensor]:
            for batch, targets in read_batches(dataset, name, self.workers):
                take(targets)
                yield batch

        features = self.encoder.batches(pictures())
        if wrong := int((~features.isfinite().all(1)).sum()):
            self.note(name, f"the model gives no numbers for {counted(wrong, 'picture')}, which count as wrong")
        return features

    def _micro(self, split: str) -> LabelledFeatures:
        """Painted things: fresh pictures of combinations that training may see teach, reserved ones ask."""
        number = micro_suite.PROBE_IMAGES_PER_THING if split == "train" else micro_suite.IMAGES_PER_THING
        # Not the pictures that the suite's split "seen" asks about.
        first = micro_suite.IMAGES_PER_THING if split == "train" else 0
        found = micro_suite.classification(Split.SEEN if split == "train" else Split.UNSEEN, number, first)
        labels = torch.from_numpy(found.things)
        return LabelledFeatures(
            self.encoder.images(found.images), labels, list(world.THINGS), micro_suite.thing_prompts()
        )
