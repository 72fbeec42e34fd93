"""Distils a micro generator into one of few steps, as SDXL-Turbo was distilled from SDXL."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn

from polygen_stream.micro.training.diffusion import NoisePath, TextConditioning
from polygen_stream.micro.training.optimize import Log, Optimization


class _Discriminator(nn.Module):
    """Maps latents [n, c, 8, 8] and pooled text [n, d] to logits of being real, [n, 4, 4].

    The text enters by projection (arXiv 1802.05637).
    """

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(128, 192, 3, padding=1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.local = nn.Conv2d(192, 1, 1)
        self.text = nn.Linear(text, 192)

    def forward(self, latents: Tensor, text: Tensor) -> Tensor:
        features = self.trunk(latents)
        matched = (features * self.text(text)[:, :, None, None]).sum(1) / features.shape[1] ** 0.5
        return self.local(features).squeeze(1) + matched


def fit_student(
    pipeline: DiffusionPipeline,
    teacher_pipeline: DiffusionPipeline,
    latents: Tensor,
    captions: list[list[str]],
    *,
    pairs: int,
    teacher_steps: int,
    guidance: float,
    anchors: tuple[int, ...],
    adversarial: float,
    steps: int,
    batch: int,
    lr: float,
    log: Log,
    snapshot: Callable[[int], None],
) -> float:
    """Distil a multi-step teacher with the same latents and betas into a few-step pipeline without guidance.

    The teacher's guided probability-flow ODE (DDIM, eta 0) maps noises to latents. The student learns to predict these
    in one step, from the noise at the first anchor timestep, and from re-noised latents at the later anchors, where the
    following steps of the sampler begin. As in adversarial diffusion distillation (SDXL-Turbo, arXiv 2311.17042), a
    discriminator that knows the caption distinguishes the student's latents from those of images, because the distance
    to the teacher alone is smallest for blurred things.

    Args:
        pipeline: the student, trained in place.
        teacher_pipeline: the teacher.
        latents: of images, float32 [n, c, h, w].
        captions: per image, captions in several wordings.
        pairs: number of noises that the teacher maps to latents.
        teacher_steps: steps of the teacher.
        guidance: guidance scale of the teacher.
        anchors: timesteps of the student, the noisiest first.
        adversarial: gradient norm of the adversarial term, relative to that of the distance.
        steps: training steps.
        batch: latents per step.
        lr: peak learning rate.
        log: receives progress lines.
        snapshot: called with the step, with averaged weights in place, every 1,000 steps and at the end.

    Returns:
        The final averaged loss.
    """
    teacher, student = TextConditioning(teacher_pipeline), TextConditioning(pipeline)
    path = NoisePath(teacher_pipeline)
    flat = student.tokenize([c[i % len(c)] for i, c in enumerate(captions[:pairs])])
    empty = student.tokenize([""])
    noises, solutions, pooled, started = [], [], [], time.monotonic()
    with torch.no_grad():
        for part in flat.split(256):
            noise = torch.randn(len(part), *_latent_shape(pipeline))
            solutions.append(_solve(teacher, path, noise, part, empty, teacher_steps, guidance))
            noises.append(noise)
            pooled.append(teacher.encoders[-1](part).text_embeds)
            if len(noises) % 10 == 0:
                log(f"teacher {len(noises) * 256} pairs {time.monotonic() - started:.0f} s")
    x0, x1, text = torch.cat(solutions), torch.cat(noises), torch.cat(pooled)
    optimization = Optimization(student.parameters(), steps, lr, log, weight_decay=0.01, warm_up=0.05)
    discriminator = _Discriminator(latents.shape[1], text.shape[1])
    discriminator_optimizer = torch.optim.AdamW(discriminator.parameters(), 3e-4, betas=(0.5, 0.99))
    for step in range(steps):
        index = torch.randint(len(x0), (batch,))
        z = x0[index]
        # About half of every batch is the hardest task, from pure noise to the teacher's latents.
        which = torch.where(torch.rand(batch) < 0.5, 0, torch.randint(1, len(anchors), (batch,)))
        t = torch.tensor(anchors)[which]
        a, s = path.scales(t)
        from_noise = (which == 0).view(-1, 1, 1, 1)
        noise = torch.where(from_noise, x1[index], torch.randn_like(z))
        x = torch.where(from_noise, noise, a * z + s * noise)
        predicted = path.clean(student.predict(x, t, student(flat[index])), x, a, s)
        distance = F.huber_loss(predicted, z, delta=0.5)
        adversary = -discriminator(predicted, text[index]).mean()
        by_distance, by_adversary = (
            torch.autograd.grad(v, predicted, retain_graph=True)[0].norm() for v in (distance, adversary)
        )
        ramp = min(1.0, step / (0.1 * steps))  # the discriminator has to learn something first
        weight = adversarial * ramp * by_distance / by_adversary.clamp(min=1e-8)
        optimization.step(distance + weight * adversary)
        real, wrong = latents[index], text[index.roll(1)]
        on_real = F.relu(1 - discriminator(real, text[index])).mean()
        on_predicted = F.relu(1 + discriminator(predicted.detach(), text[index])).mean()
        on_mismatched = F.relu(1 + discriminator(real, wrong)).mean()  # a real image with another caption
        hinge = on_real + on_predicted / 2 + on_mismatched / 2
        discriminator_optimizer.zero_grad(set_to_none=True)
        hinge.backward()
        discriminator_optimizer.step()
        if (step + 1) % 100 == 0:
            log(f"distance {distance.item():.4f} discriminator {hinge.item():.3f}")
        optimization.snapshot(snapshot)
    optimization.ema.swap()
    return optimization.loss


def _solve(
    teacher: TextConditioning, path: NoisePath, x: Tensor, ids: Tensor, empty: Tensor, steps: int, guidance: float
) -> Tensor:
    """Return the teacher's latents for noises x, by DDIM with classifier-free guidance."""
    with_text, without = teacher(ids), teacher(empty.expand(len(ids), -1))
    grid = torch.linspace(999, 0, steps + 1).round().long()
    for now, after in pairwise(grid):
        t = now.expand(len(x))
        guided, plain = teacher.predict(x, t, with_text), teacher.predict(x, t, without)
        prediction = plain + guidance * (guided - plain)
        a, s = path.scales(t)
        z = path.clean(prediction, x, a, s).clamp(-4, 4)
        a_next, s_next = path.scales(after.expand(len(x)))
        x = a_next * z + s_next * (x - a * z) / s
    return x


def _latent_shape(pipeline: DiffusionPipeline) -> tuple[int, int, int]:
    unet = pipeline.unet.config
    return unet.in_channels, unet.sample_size, unet.sample_size
