"""Features of datasets: each dataset is opened and encoded once, however many tasks ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate import micro_suite, standard_data, user_data
from polygen_stream.evaluate.encoder import BATCH, Encoder
from polygen_stream.micro import world
from polygen_stream.micro.world import Split


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


class Data:
    """One encoder's features of the datasets below a root.

    Args:
        root: folder of datasets, or a URL template with {dataset_cleaned}; None when only paths are asked for.
        workers: processes that decode pictures; 0 = this one.
    """

    def __init__(self, encoder: Encoder, root: str | None = None, workers: int = 0) -> None:
        self.encoder, self.root, self.workers = encoder, root, workers
        self._labelled: dict[tuple[str, str], LabelledFeatures] = {}

    def labelled(self, name: str, split: str = "test") -> LabelledFeatures:
        """name: a folder of pictures, a standard dataset, or "micro".

        Raises:
            UserError: it is not there, has no such split, or has several labels per picture.
        """
        if (name, split) not in self._labelled:
            self._labelled[name, split] = self._encode_labelled(name, split)
        return self._labelled[name, split]

    def captioned(self, name: str) -> CaptionedFeatures:
        """name: a TSV file of (image, caption), or a standard dataset.

        Raises:
            UserError: it is not there, or has no captions.
        """
        if name.endswith(".tsv"):
            found = user_data.caption_table(Path(name), self.encoder.transform)
        else:
            found = standard_data.captioned(name, self._root(name), self.encoder.transform)
        captions: list[str] = []
        owner: list[int] = []

        def pictures() -> Iterator[Tensor]:
            seen = 0
            for batch, targets in self._read(found.dataset):
                for texts in targets:
                    captions.extend(texts)
                    owner.extend([seen] * len(texts))
                    seen += 1
                yield batch

        images = self.encoder.batches(pictures())
        return CaptionedFeatures(images, self.encoder.texts(captions), torch.tensor(owner))

    def pictures(self, files: list[Path]) -> Tensor:
        """Features [n, d] of picture files; a file that is given twice is encoded once."""
        unique = list(dict.fromkeys(files))
        place = {file: i for i, file in enumerate(unique)}
        dataset = user_data.ImageFiles(unique, [0] * len(unique), self.encoder.transform)
        features = self.encoder.batches(batch for batch, _ in self._read(dataset))
        return features[[place[file] for file in files]]

    def _encode_labelled(self, name: str, split: str) -> LabelledFeatures:
        if name == "micro":
            return self._micro(split)
        if Path(name).is_dir():
            found = user_data.image_folder(Path(name), split, self.encoder.transform)
        else:
            found = standard_data.labelled(name, self._root(name), split, self.encoder.transform)
        labels: list[int] = []

        def pictures() -> Iterator[Tensor]:
            for batch, targets in self._read(found.dataset):
                try:
                    labels.extend(int(label) for label in targets)
                except (TypeError, ValueError):
                    raise UserError(f"{name} has several labels per picture, which no task here scores") from None
                yield batch

        features = self.encoder.batches(pictures())
        if isinstance(found.templates, dict):
            prompts = [list(found.templates[c]) for c in found.classes]
        else:
            prompts = [[template.format(c=c) for template in found.templates] for c in found.classes]
        return LabelledFeatures(features, torch.tensor(labels), list(found.classes), prompts)

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

    def _root(self, name: str) -> str:
        if self.root is None:
            raise UserError(f"{name} is no folder or file here: if it is a standard dataset, say where with --data DIR")
        return self.root

    def _read(self, dataset: Dataset) -> Iterator[tuple[Tensor, list[object]]]:
        try:
            yield from DataLoader(dataset, batch_size=BATCH, num_workers=self.workers, collate_fn=_collate)
        except UserError as problem:
            # A worker's error comes with its traceback before it.
            raise UserError(str(problem).strip().splitlines()[-1].split("UserError: ")[-1]) from None


def _collate(rows: list[tuple[Tensor, object]]) -> tuple[Tensor, list[object]]:
    return torch.stack([picture for picture, _ in rows]), [target for _, target in rows]
