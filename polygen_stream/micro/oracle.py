"""The oracle: a small convolutional network that recognises the scene of a micro image.

It is trained on the painter's images of seen and reserved scenes alike. It grades generators; nothing is trained with
it. Scenes are in canonical order, the left or upper thing first, so that every question has one answer: "a left of b"
and "b right of a" are the same image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from polygen_stream.micro import world
from polygen_stream.micro.world import Scene, canonical

# One to three copies of a thing, a pair side by side, a pair one above the other.
LAYOUTS = ("one", "two", "three", "beside", "stacked")
# Question about an image -> the possible answers. `second_*` applies to pairs only, `size` and `position` only to one
# copy of one thing, `size` only in the centre.
ANSWERS: dict[str, tuple[str, ...]] = {
    "layout": LAYOUTS,
    "thing": world.THINGS,
    "colour": world.COLOURS,
    "material": world.MATERIALS,
    "second_thing": world.THINGS,
    "second_colour": world.COLOURS,
    "second_material": world.MATERIALS,
    "size": world.SIZES,
    "position": world.POSITIONS,
    "background": world.BACKGROUNDS,
    "lighting": world.LIGHTINGS,
    "weather": world.WEATHERS,
}
NOT_ASKED = -100  # label of a question that does not apply to a scene; the default ignore_index of cross_entropy


def _layout_of(scene: Scene) -> str:
    """Return the answer to the question about the layout, one of `LAYOUTS`."""
    if scene.is_pair:
        return "beside" if scene.relation in ("left of", "right of") else "stacked"
    return LAYOUTS[scene.count - 1]


def labels_of(scene: Scene) -> np.ndarray:
    """Return the correct answers to `ANSWERS`, int64 [questions], NOT_ASKED for those that do not apply."""
    scene = canonical(scene)
    first = scene.things[0]
    answers = {
        "layout": _layout_of(scene),
        "thing": first.noun,
        "colour": first.colour,
        "material": first.material,
        "background": scene.background,
        "lighting": scene.lighting,
        "weather": scene.weather,
    }
    if scene.is_pair:
        second = scene.things[1]
        answers |= {
            "second_thing": second.noun,
            "second_colour": second.colour,
            "second_material": second.material,
        }
    elif scene.count == 1:
        answers["position"] = scene.position
        if scene.position == "centre":
            answers["size"] = first.size
    return np.array([ANSWERS[q].index(answers[q]) if q in answers else NOT_ASKED for q in ANSWERS])


@dataclass(frozen=True)
class OracleReading:
    """What the oracle recognises in n images.

    Attributes:
        log_p: question -> log-probabilities of its answers, float32 [n, answers].
    """

    log_p: dict[str, np.ndarray]

    def correct(self, scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
        """Compare the most likely answers with scenes.

        Args:
            scenes: the expected scene of each of the n images.

        Returns:
            question or "relation" -> float64 [n]: 1.0 where the answer is correct, 0.0 where it is not, NaN where the
            question does not apply.
        """
        labels = np.stack([labels_of(s) for s in scenes])
        out = {}
        for column, question in enumerate(ANSWERS):
            right = (self.log_p[question].argmax(-1) == labels[:, column]).astype(float)
            out[question] = np.where(labels[:, column] == NOT_ASKED, np.nan, right)
        out["relation"] = self._relation(scenes)
        return out

    def _relation(self, scenes: Sequence[Scene]) -> np.ndarray:
        """Return 1.0 where the expected relation is the most likely of the four, 0.0 elsewhere, NaN without a pair.

        Each relation is a hypothesis about the layout and about which thing comes first. Nouns and colours both count,
        so that a misshapen thing can be recognised by its colour.
        """
        out = np.full(len(scenes), np.nan)
        for i, scene in enumerate(scenes):
            if scene.is_pair:
                score = {r: self._log_likelihood(i, scene, r) for r in world.RELATIONS}
                out[i] = float(max(score, key=score.__getitem__) == scene.relation)
        return out

    def _log_likelihood(self, i: int, scene: Scene, relation: str) -> float:
        labels = labels_of(Scene(scene.things, scene.background, relation=relation))
        asked = ("layout", "thing", "colour", "second_thing", "second_colour")
        return float(sum(self.log_p[q][i, labels[list(ANSWERS).index(q)]] for q in asked))


class Oracle(nn.Module):
    """The network.

    Args:
        widths: channels of its four stages.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (24, 48, 96, 160)) -> None:
        super().__init__()
        stem, *stages = widths
        layers: list[nn.Module] = [_conv(3, stem)]
        for before, width in zip(widths, stages, strict=False):
            layers += [nn.MaxPool2d(2), _conv(before, width), *([_conv(width, width)] if width < stages[-1] else [])]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, 256), nn.ReLU())
        self.heads = nn.ModuleDict({question: nn.Linear(256, len(a)) for question, a in ANSWERS.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits per question, each [n, answers], of images float32 [n, 3, 32, 32] in -1..1."""
        features = self.trunk(images)
        return {question: head(features) for question, head in self.heads.items()}

    @torch.inference_mode()
    def features(self, images: np.ndarray, batch: int = 500) -> np.ndarray:
        """Return the features before the heads, float32 [n, 256], of images uint8 [n, 32, 32, 3]."""
        return torch.cat([self.trunk(to_tensor(images[i : i + batch])) for i in range(0, len(images), batch)]).numpy()

    @torch.inference_mode()
    def read(self, images: np.ndarray, batch: int = 500) -> OracleReading:
        """Recognise the scenes of images uint8 [n, 32, 32, 3]."""
        parts = [self(to_tensor(images[i : i + batch])) for i in range(0, len(images), batch)]
        return OracleReading({q: torch.cat([p[q] for p in parts]).log_softmax(-1).numpy() for q in ANSWERS})


def to_tensor(images: np.ndarray) -> Tensor:
    """Convert images uint8 [n, h, w, 3] to float32 [n, 3, h, w] in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def fit_oracle(
    oracle: Oracle,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch: int,
    lr: float,
    log: Callable[[str], None],
    snapshot: Callable[[], None],
) -> None:
    """Train the oracle.

    Half of the images are slightly blurred and half are slightly noisy, so that the soft edges of generators do not
    change the answers.

    Args:
        oracle: the network, trained in place.
        images: uint8 [n, 32, 32, 3].
        labels: int64 [n, questions], see `labels_of`.
        epochs: passes over the images.
        batch: images per step.
        lr: peak learning rate.
        log: receives a line after every epoch.
        snapshot: called after every epoch.
    """
    optimizer = torch.optim.AdamW(oracle.parameters(), lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * (len(images) // batch), pct_start=0.1)
    answers = torch.from_numpy(labels)
    for epoch in range(epochs):
        oracle.train()
        total, steps = 0.0, 0
        for index in _batches(len(images), batch):
            x = _soften(to_tensor(images[index.numpy()]))
            logits = oracle(x)
            loss = torch.zeros(())
            for column, question in enumerate(ANSWERS):
                target = answers[index, column]
                if (target != NOT_ASKED).any():
                    loss = loss + F.cross_entropy(logits[question], target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total, steps = total + loss.item(), steps + 1
        oracle.eval()
        log(f"epoch {epoch + 1} loss {total / steps:.3f}")
        snapshot()


def save_oracle(oracle: Oracle, path: Path) -> None:
    """Save the weights in a safetensors file."""
    save_model(oracle, str(path))


def load_oracle(path: Path) -> Oracle:
    """Load a trained oracle in evaluation mode.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    oracle = Oracle()
    load_model(oracle, str(path))
    return oracle.eval()


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def _batches(count: int, batch: int) -> Iterator[Tensor]:
    order = torch.randperm(count)
    return iter(order[: count // batch * batch].split(batch))


def _soften(x: Tensor) -> Tensor:
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = (torch.rand(len(x), 1, 1, 1) - 0.5).clamp(min=0)  # 0 for half of the images, up to 0.5 for the others
    noise = (torch.rand(len(x), 1, 1, 1) - 0.5).clamp(min=0) * 0.1
    return x + share * (blurred - x) + noise * torch.randn_like(x)
