"""Trains the text-conditioned denoisers of the micro generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn

from polygen_stream.micro.training.diffusion import NoisePath, TextConditioning
from polygen_stream.micro.training.optimize import Log, Optimization


def fit_denoiser(
    pipeline: DiffusionPipeline,
    latents: Tensor,
    captions: list[list[str]],
    *,
    steps: int,
    batch: int,
    lr: float,
    warm_up_text: bool,
    log: Log,
    snapshot: Callable[[int], None],
) -> float:
    """Train the denoiser of a pipeline and its text encoders together.

    Args:
        pipeline: the generator, trained in place.
        latents: of images, float32 [n, c, h, w].
        captions: per image, captions in several wordings.
        steps: training steps.
        batch: latents per step.
        lr: peak learning rate.
        warm_up_text: whether the text encoders are first trained by a contrastive loss against the latents. A denoiser
            with untrained text encoders learns to ignore them.
        log: receives progress lines.
        snapshot: called with the step, with averaged weights in place, every 1,000 steps and at the end.

    Returns:
        The final averaged loss.
    """
    conditioning, path = TextConditioning(pipeline), NoisePath(pipeline)
    ids = torch.stack([conditioning.tokenize([c[w] for c in captions]) for w in range(len(captions[0]))], 1)
    empty = conditioning.tokenize([""])[0]
    if warm_up_text:
        _warm_up_text(conditioning, latents, ids, log)
    optimization = Optimization(conditioning.parameters(), steps, lr, log, weight_decay=0.01, warm_up=0.05)
    conditioning.denoiser.train()
    for index, wording in islice(_batches(len(latents), ids.shape[1], batch), steps):
        z, tokens = latents[index], ids[index, wording].clone()
        tokens[torch.rand(batch) < 0.1] = empty
        noise, t = torch.randn_like(z), path.sample_timesteps(batch)
        a, s = path.scales(t)
        predicted = conditioning.predict(a * z + s * noise, t, conditioning(tokens))
        optimization.step((path.weight(a) * (predicted - path.target(z, noise, a, s)).pow(2)).mean())
        optimization.snapshot(snapshot)
    optimization.ema.swap()
    return optimization.loss


def _batches(count: int, wordings: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (index, wording) batches without end: every image once per pass, each time in a random wording."""
    while True:
        for index in torch.randperm(count).split(batch):
            if len(index) == batch:
                yield index, torch.randint(wordings, (batch,))


def _warm_up_text(conditioning: TextConditioning, latents: Tensor, ids: Tensor, log: Log, steps: int = 600) -> None:
    """Train the text encoders and a linear image encoder of the latents by CLIP's contrastive loss."""
    batch, width = 192, 128
    sizes = [e.config.hidden_size for e in conditioning.encoders]
    image_encoder = nn.Sequential(nn.Flatten(), nn.Linear(latents[0].numel(), 384), nn.GELU(), nn.Linear(384, width))
    heads = nn.ModuleList(nn.Linear(size, width) for size in sizes)
    scale = nn.Parameter(torch.tensor(2.6))
    trained = [*image_encoder.parameters(), *heads.parameters(), scale]
    trained += [p for e in conditioning.encoders for p in e.parameters()]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    labels = torch.arange(batch)
    loss = torch.zeros(())
    pad = conditioning.pipeline.tokenizer.pad_token_id
    for index, wording in islice(_batches(len(latents), ids.shape[1], batch), steps):
        tokens = ids[index, wording]
        image = F.normalize(image_encoder(latents[index]), dim=-1)
        mask = ((tokens != pad) | (torch.arange(tokens.shape[1]) == 0)).unsqueeze(-1).float()
        loss = torch.zeros(())
        for encoder, head in zip(conditioning.encoders, heads, strict=True):
            hidden = encoder(tokens, output_hidden_states=True).hidden_states[-1]
            text = F.normalize(head((hidden * mask).sum(1) / mask.sum(1)), dim=-1)
            logits = scale.exp() * image @ text.T
            loss = loss + (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    log(f"text encoders after {steps} contrastive steps: loss {loss.item() / len(heads):.3f}")
