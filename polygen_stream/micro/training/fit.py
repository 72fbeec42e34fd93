"""Training loops of the micro generators: autoencoder, text-conditioned denoiser, few-step student.

Each returns after a fixed number of steps with the weights averaged over time (EMA) in place. Everything runs on the
CPU with the thread count the caller set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, AutoencoderKL, DiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor, nn

from polygen_stream.micro.oracle import to_tensor
from polygen_stream.micro.training.dataset import PaintedImages
from polygen_stream.micro.training.optimize import Log, Optimization


def encode(vae: AutoencoderKL | AutoencoderDC, images: Tensor) -> Tensor:
    """Latents [n, c, h, w] of pictures; the mode where the autoencoder gives a distribution."""
    encoded = vae.encode(images)
    return encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()


@torch.no_grad()
def encode_all(vae: AutoencoderKL | AutoencoderDC, images: np.ndarray, batch: int = 500) -> Tensor:
    return torch.cat([encode(vae, to_tensor(images[i : i + batch])) for i in range(0, len(images), batch)])


def fit_autoencoder(
    vae: AutoencoderKL | AutoencoderDC, pictures: PaintedImages, steps: int, batch: int, lr: float, log: Log
) -> float:
    """Train to reconstruct, with latents held near zero mean and unit variance per channel.

    Returns:
        PSNR in dB over the last 2,000 pictures, which are not trained on.
    """
    held_out = 2000
    train = pictures.images[:-held_out]
    vae.train()
    optimization = Optimization(vae.parameters(), steps, lr, log, weight_decay=1e-3, warm_up=0.1)
    for _ in range(steps):
        x = to_tensor(train[torch.randint(len(train), (batch,)).numpy()])
        encoded = vae.encode(x)
        if hasattr(encoded, "latent"):
            z = mean = encoded.latent
            # the decoder must bear the denoiser's small errors; a KL autoencoder learns that from its own noise
            z = z + 0.05 * torch.randn_like(z)
            kl = torch.zeros(())
        else:
            z, mean, kl = encoded.latent_dist.sample(), encoded.latent_dist.mean, encoded.latent_dist.kl().mean()
        y = vae.decode(z).sample
        moments = mean.mean((0, 2, 3)).pow(2).mean() + (mean.var((0, 2, 3)) - 1).pow(2).mean()
        optimization.step(F.l1_loss(y, x) + F.mse_loss(y, x) + 3e-4 * kl / z[0].numel() + 0.02 * moments)
    optimization.ema.swap()
    vae.eval()
    with torch.no_grad():
        x = to_tensor(pictures.images[-held_out:])
        errors = [F.mse_loss(vae.decode(encode(vae, part)).sample, part).item() for part in x.split(500)]
    return float(-10 * np.log10(np.mean(errors) / 4))


class Conditioning:
    """A pipeline's own text path, as training needs it: token ids in, keyword arguments of the denoiser out."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.pipeline = pipeline
        self.is_sana = hasattr(pipeline, "transformer")
        self.is_xl = isinstance(pipeline, StableDiffusionXLPipeline)
        self.encoders = [pipeline.text_encoder] + ([pipeline.text_encoder_2] if self.is_xl else [])
        self.denoiser = pipeline.transformer if self.is_sana else pipeline.unet

    def parameters(self) -> list[nn.Parameter]:
        return [p for m in [self.denoiser, *self.encoders] for p in m.parameters()]

    def tokenize(self, captions: list[str]) -> Tensor:
        """Token ids int64 [n, MAX_TOKENS]; both tokenizers of the XL class are equal, so ids are shared."""
        tokenizer = self.pipeline.tokenizer
        out = tokenizer(
            captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )
        return out.input_ids

    def __call__(self, ids: Tensor) -> dict[str, object]:
        if self.is_sana:
            mask = (ids != self.pipeline.tokenizer.pad_token_id).long()
            hidden = self.encoders[0](ids, attention_mask=mask)[0]
            return {"encoder_hidden_states": hidden, "encoder_attention_mask": mask}
        if not self.is_xl:
            return {"encoder_hidden_states": self.encoders[0](ids)[0]}
        # StableDiffusionXLPipeline.encode_prompt: penultimate layers side by side, pooled output of the second
        first = self.encoders[0](ids, output_hidden_states=True)
        second = self.encoders[1](ids, output_hidden_states=True)
        hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        time_ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).expand(len(ids), 6)
        return {
            "encoder_hidden_states": hidden,
            "added_cond_kwargs": {"text_embeds": second.text_embeds, "time_ids": time_ids},
        }

    def predict(self, x: Tensor, t: Tensor, condition: dict[str, object]) -> Tensor:
        """The denoiser's raw output for noisy latents x [n, c, h, w] at timesteps t [n] in 0..1000."""
        if self.is_sana:
            return self.denoiser(x, timestep=t, **condition).sample
        return self.denoiser(x, t, **condition).sample


class Path:
    """The noising path of a pipeline's scheduler: x = a z + s n, and what its network is trained to predict."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        config = pipeline.scheduler.config
        self.kind = config.prediction_type
        self.alphas = pipeline.scheduler.alphas_cumprod.clone() if self.kind != "flow_prediction" else None

    def sample_timesteps(self, n: int) -> Tensor:
        """Timesteps [n] in 0..1000, stratified over the batch; flow matching prefers the noisy half."""
        u = (torch.arange(n) + torch.rand(n)) / n
        if self.kind == "flow_prediction":
            shift = 2.0
            return 1000 * shift * u / (1 + (shift - 1) * u)
        return (u * 1000).long().clamp(0, 999)

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(a, s), each [n, 1, 1, 1]."""
        if self.alphas is None:
            s = (t / 1000).view(-1, 1, 1, 1)
            return 1 - s, s
        a = self.alphas[t].view(-1, 1, 1, 1)
        return a.sqrt(), (1 - a).sqrt()

    def target(self, z: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
        match self.kind:
            case "epsilon":
                return noise
            case "v_prediction":
                return a * noise - s * z
        return noise - z

    def weight(self, a: Tensor) -> Tensor:
        """Loss weight. Epsilon loses the picture at the noisy end: its error counts as a v-error, up to 20 times."""
        return (1 / a.pow(2)).clamp(max=20.0) if self.kind == "epsilon" else torch.ones_like(a)

    def clean(self, prediction: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """The latents z that a prediction implies."""
        match self.kind:
            case "epsilon":
                return (x - s * prediction) / a
            case "v_prediction":
                return a * x - s * prediction
        return x - s * prediction


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
    """Train the denoiser and its text encoders together; returns the final averaged loss.

    With `warm_up_text` the text encoders first spend a minute on a contrastive loss against the latents: without it the
    denoiser learns to ignore them. `snapshot(step)` is called with averaged weights in place every 1,000 steps.
    """
    conditioning, path = Conditioning(pipeline), Path(pipeline)
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


class _Discriminator(nn.Module):
    """Latents [n, c, 8, 8] and pooled text [n, d] -> realness logits [n, 4, 4], the text by projection."""

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
    pipeline: StableDiffusionXLPipeline,
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

    The teacher's guided probability-flow ODE (DDIM, eta 0) carries `pairs` noises to latents; the student learns to
    jump there in one step from the first anchor timestep, and from re-noised latents at the later anchors, where the
    sampler's following steps start. As in adversarial diffusion distillation (SDXL-Turbo, arXiv 2311.17042), a
    discriminator that knows the caption tells the student's latents from those of pictures: the distance to the
    teacher alone would be least for blurred things. Its gradient is held at `adversarial` times that of the distance.
    """
    teacher, student, path = Conditioning(teacher_pipeline), Conditioning(pipeline), Path(teacher_pipeline)
    flat = student.tokenize([c[i % len(c)] for i, c in enumerate(captions[:pairs])])
    empty = student.tokenize([""])
    noises, solutions, pooled, started = [], [], [], time.time()
    with torch.no_grad():
        for part in flat.split(256):
            noise = torch.randn(len(part), *_latent_shape(pipeline))
            solutions.append(_solve(teacher, path, noise, part, empty, teacher_steps, guidance))
            noises.append(noise)
            pooled.append(teacher.encoders[-1](part).text_embeds)
            if len(noises) % 10 == 0:
                log(f"teacher {len(noises) * 256} pairs {time.time() - started:.0f} s")
    x0, x1, text = torch.cat(solutions), torch.cat(noises), torch.cat(pooled)
    optimization = Optimization(student.parameters(), steps, lr, log, weight_decay=0.01, warm_up=0.05)
    judge = _Discriminator(latents.shape[1], text.shape[1])
    judging = torch.optim.AdamW(judge.parameters(), 3e-4, betas=(0.5, 0.99))
    for step in range(steps):
        index = torch.randint(len(x0), (batch,))
        z = x0[index]
        # half of every batch is the hard jump from pure noise along the teacher's own path
        which = torch.where(torch.rand(batch) < 0.5, 0, torch.randint(1, len(anchors), (batch,)))
        t = torch.tensor(anchors)[which]
        a, s = path.scales(t)
        own = (which == 0).view(-1, 1, 1, 1)
        noise = torch.where(own, x1[index], torch.randn_like(z))
        x = torch.where(own, noise, a * z + s * noise)
        drawn = path.clean(student.predict(x, t, student(flat[index])), x, a, s)
        distance = F.huber_loss(drawn, z, delta=0.5)
        doubt = -judge(drawn, text[index]).mean()
        by_distance, by_doubt = (torch.autograd.grad(v, drawn, retain_graph=True)[0].norm() for v in (distance, doubt))
        started_up = min(1.0, step / (0.1 * steps))  # the judge has to learn something first
        weight = adversarial * started_up * by_distance / by_doubt.clamp(min=1e-8)
        optimization.step(distance + weight * doubt)
        real, wrong = latents[index], text[index.roll(1)]
        told = F.relu(1 - judge(real, text[index])).mean() + F.relu(1 + judge(drawn.detach(), text[index])).mean() / 2
        told = told + F.relu(1 + judge(real, wrong)).mean() / 2  # a real picture under another caption
        judging.zero_grad(set_to_none=True)
        told.backward()
        judging.step()
        if (step + 1) % 100 == 0:
            log(f"distance {distance.item():.4f} judge {told.item():.3f}")
        optimization.snapshot(snapshot)
    optimization.ema.swap()
    return optimization.loss


def _solve(
    teacher: Conditioning, path: Path, x: Tensor, ids: Tensor, empty: Tensor, steps: int, guidance: float
) -> Tensor:
    """The teacher's latents for noises x, by DDIM with classifier-free guidance."""
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


def _latent_shape(pipeline: StableDiffusionXLPipeline) -> tuple[int, int, int]:
    unet = pipeline.unet.config
    return unet.in_channels, unet.sample_size, unet.sample_size


def _batches(count: int, wordings: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (index, wording) pairs: every picture once per pass, each time in a random wording."""
    while True:
        for index in torch.randperm(count).split(batch):
            if len(index) == batch:
                yield index, torch.randint(wordings, (batch,))


def _warm_up_text(conditioning: Conditioning, latents: Tensor, ids: Tensor, log: Log, steps: int = 600) -> None:
    batch, width = 192, 128
    sizes = [e.config.hidden_size for e in conditioning.encoders]
    picture = nn.Sequential(nn.Flatten(), nn.Linear(latents[0].numel(), 384), nn.GELU(), nn.Linear(384, width))
    heads = nn.ModuleList(nn.Linear(size, width) for size in sizes)
    scale = nn.Parameter(torch.tensor(2.6))
    trained = [*picture.parameters(), *heads.parameters(), scale]
    trained += [p for e in conditioning.encoders for p in e.parameters()]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    labels = torch.arange(batch)
    pad = conditioning.pipeline.tokenizer.pad_token_id
    for index, wording in islice(_batches(len(latents), ids.shape[1], batch), steps):
        tokens = ids[index, wording]
        image = F.normalize(picture(latents[index]), dim=-1)
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
