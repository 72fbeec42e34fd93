"""The work of each rank in the tests of losses and batch norms over ranks, and the single process to compare with."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.distributed as dist
from loss_reference import Case
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from polygen_stream.train.batch_norm import synchronize_batch_norms
from polygen_stream.train.grad_cache import CachedFeatures
from polygen_stream.train.loss import multi_positive_loss
from polygen_stream.train.text_image_index import TextImageIndex

INPUT, DIM = 7, 5
CASE = Case(
    # Eleven texts of 1 to 8 images; text 5 is text 0's words again, T- 8 is those of T+ 3.
    image_text=[t for t, count in enumerate([2, 1, 8, 3, 1, 2, 4, 2, 3, 1, 2]) for _ in range(count)],
    negative=[t >= 7 for t in range(11)],
    caption=[0, 1, 2, 3, 4, 0, 6, 7, 3, 9, 10],
)
# Rank of each text. Ranks differ in images and texts; the last of four has one text of one image and no negative.
RANKS = {2: [0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0], 4: [0, 0, 0, 1, 3, 2, 1, 0, 1, 2, 0]}
OPTIONS = [
    {"hn_t2i": "same_polarity", "image_image_weight": 0.7},
    {"hn_t2i": "none"},
    {"hn_t2i": "all", "image_image_weight": 0.7},
    {"objective": "negclip", "image_image_weight": 0.7},
    {"objective": "infonce"},
    {"hn_weight": "one", "image_image_weight": 1.0, "image_image_candidates": "all"},
]
HEADS = (False, True)


class Towers(torch.nn.Module):
    """Two small encoders, a logit scale and a head for the image-image term."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = torch.nn.Sequential(torch.nn.Linear(INPUT, 9), torch.nn.Tanh(), torch.nn.Linear(9, DIM))
        self.text = torch.nn.Linear(INPUT, DIM)
        self.head = torch.nn.Linear(DIM, 3)
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(5.0)))

    def encode_image(self, images: Tensor) -> Tensor:
        return normalize(self.image(images), dim=-1)

    def encode_text(self, texts: Tensor) -> Tensor:
        return normalize(self.text(texts), dim=-1)

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
        features = self.encode_image(images)
        return features, self.encode_text(texts), self.logit_scale.exp(), normalize(self.head(features), dim=-1)


def rank_part(rank_of_text: list[int], rank: int) -> tuple[TextImageIndex, list[int], list[int]]:
    """The index of a rank's part of CASE, and the numbers of its images and texts."""
    texts = [t for t, owner in enumerate(rank_of_text) if owner == rank]
    images = [r for r, t in enumerate(CASE.image_text) if t in texts]
    part = Case(
        [texts.index(CASE.image_text[r]) for r in images],
        [CASE.negative[t] for t in texts],
        [CASE.caption[t] for t in texts],
    )
    return part.index, images, texts


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    counts = len(CASE.image_text), len(CASE.negative)
    return tuple(torch.randn(n, INPUT, generator=generator, dtype=torch.float64).to(dtype) for n in counts)


def loss_of(
    outputs: tuple[Tensor, ...], index: TextImageIndex, head: bool, **options
) -> tuple[Tensor, dict[str, Tensor]]:
    images, texts, scale, head_features = outputs
    own = {"image_image_features": head_features} if head else {}
    return multi_positive_loss(images, texts, scale, index, **own, **options)


def whole_batch(dtype: torch.dtype, head: bool, options: dict) -> dict[str, Tensor]:
    """Loss, parts and gradients of a single process, without micro-batches."""
    model = Towers().to(dtype)
    loss, parts = loss_of(model(*inputs(dtype)), CASE.index, head, **options)
    loss.backward()
    return {"loss": loss.detach(), **parts, **gradients(model)}


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {f"d {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}


def in_micro_batches(
    model: Towers, images: Tensor, texts: Tensor, index: TextImageIndex, micro_batches: int, head: bool, **options
):
    """As `whole_batch`, but in micro-batches with a feature cache."""
    caches = (
        CachedFeatures(model.encode_image, images, micro_batches),
        CachedFeatures(model.encode_text, texts, micro_batches),
    )
    image_features, text_features = (cache.features for cache in caches)
    outputs = image_features, text_features, model.logit_scale.exp(), normalize(model.head(image_features), dim=-1)
    loss, parts = loss_of(outputs, index, head, **options)
    loss.backward()
    for cache in caches:
        cache.backward()
    return loss, parts


def work(rank: int, world_size: int, folder: str) -> None:
    """Run every option on this rank's part of the batch; results go to folder/RANK.pt."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    index, own_images, own_texts = rank_part(RANKS[world_size], rank)
    found = {}
    for dtype in (torch.float64, torch.float32):
        images, texts = inputs(dtype)
        images, texts = images[own_images], texts[own_texts]
        for number, options in enumerate(OPTIONS):
            for head in HEADS:
                for chunk in (0, 3):
                    model = DistributedDataParallel(Towers().to(dtype), find_unused_parameters=True)
                    shared = {**options, "chunk": chunk, "group": dist.group.WORLD}
                    loss, parts = loss_of(model(images, texts), index, head, **shared)
                    loss.backward()
                    found[dtype, number, head, f"chunk {chunk}"] = result(loss, parts, model.module)
                plain = Towers().to(dtype)
                loss, parts = in_micro_batches(plain, images, texts, index, 4, head, group=dist.group.WORLD, **options)
                for parameter in plain.parameters():
                    if parameter.grad is not None:
                        dist.all_reduce(parameter.grad.div_(world_size))
                found[dtype, number, head, "4 micro-batches"] = result(loss, parts, plain)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def result(loss: Tensor, parts: dict[str, Tensor], model: torch.nn.Module) -> dict[str, Tensor]:
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return {"loss": mean / dist.get_world_size(), **parts, **{k: v.clone() for k, v in gradients(model).items()}}


def batch_norm_case() -> tuple[torch.nn.Module, Tensor, Tensor]:
    """Batch norms of two kinds between layers, 11 inputs, and what the output's loss is weighted with."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3),
        torch.nn.BatchNorm2d(4, momentum=0.3),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 5),
        torch.nn.BatchNorm1d(5),
    ).double()
    return model, torch.randn(11, 2, 5, 5, dtype=torch.float64), torch.randn(11, 5, dtype=torch.float64)


def batch_norm_work(rank: int, folder: str) -> None:
    """Two steps of statistics over two ranks that hold 4 and 7 of the inputs; results go to folder/RANK.pt."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model, inputs, weights = batch_norm_case()
    synchronize_batch_norms(model, torch.device("cpu"))
    own = slice(0, 4) if rank == 0 else slice(4, 11)
    outputs = [model(inputs[own] + step) for step in range(2)]
    for output in outputs:
        (output * weights[own]).square().sum().backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
    state = {name: value for name, value in model.state_dict().items()}
    with torch.no_grad():
        state["evaluated"] = model.eval()(inputs)
    torch.save({"outputs": [o.detach() for o in outputs], "state": state, **gradients(model)}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
