"""What the training of denoisers needs to know about a pipeline: its text path and its noise."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor, nn


class TextConditioning:
    """The text path of a pipeline: from captions to keyword arguments of its denoiser.

    Args:
        pipeline: a pipeline of the micro zoo.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.pipeline = pipeline
        self.is_sana = hasattr(pipeline, "transformer")
        self.is_xl = isinstance(pipeline, StableDiffusionXLPipeline)
        self.encoders = [pipeline.text_encoder] + ([pipeline.text_encoder_2] if self.is_xl else [])
        self.denoiser = pipeline.transformer if self.is_sana else pipeline.unet

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the denoiser and of the text encoders."""
        return [p for m in [self.denoiser, *self.encoders] for p in m.parameters()]

    def tokenize(self, captions: list[str]) -> Tensor:
        """Return token ids, int64 [n, MAX_TOKENS]. The two tokenizers of the XL class are equal and share them."""
        tokenizer = self.pipeline.tokenizer
        out = tokenizer(
            captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )
        return out.input_ids

    def __call__(self, ids: Tensor) -> dict[str, Any]:
        """Return the keyword arguments of the denoiser for token ids [n, MAX_TOKENS]."""
        if self.is_sana:
            mask = (ids != self.pipeline.tokenizer.pad_token_id).long()
            hidden = self.encoders[0](ids, attention_mask=mask)[0]
            return {"encoder_hidden_states": hidden, "encoder_attention_mask": mask}
        if not self.is_xl:
            return {"encoder_hidden_states": self.encoders[0](ids)[0]}
        # As StableDiffusionXLPipeline.encode_prompt: penultimate layers of both encoders, pooled output of the second.
        first = self.encoders[0](ids, output_hidden_states=True)
        second = self.encoders[1](ids, output_hidden_states=True)
        hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        time_ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).expand(len(ids), 6)
        return {
            "encoder_hidden_states": hidden,
            "added_cond_kwargs": {"text_embeds": second.text_embeds, "time_ids": time_ids},
        }

    def predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        """Return the denoiser's output for noisy latents x [n, c, h, w] at timesteps t [n] in 0..1000."""
        if self.is_sana:
            return self.denoiser(x, timestep=t, **condition).sample
        return self.denoiser(x, t, **condition).sample


class NoisePath:
    """The path from latents z to noise n of a pipeline's scheduler, x = a z + s n, and the target of its network.

    Args:
        pipeline: a pipeline of the micro zoo.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        config = pipeline.scheduler.config
        self.kind = config.prediction_type
        self.alphas = pipeline.scheduler.alphas_cumprod.clone() if self.kind != "flow_prediction" else None

    def sample_timesteps(self, n: int) -> Tensor:
        """Draw timesteps [n] in 0..1000, stratified over the batch; for flow matching, more in the noisy half."""
        u = (torch.arange(n) + torch.rand(n)) / n
        if self.kind == "flow_prediction":
            shift = 2.0
            return 1000 * shift * u / (1 + (shift - 1) * u)
        return (u * 1000).long().clamp(0, 999)

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales a and s at timesteps t [n], each [n, 1, 1, 1]."""
        if self.alphas is None:
            s = (t / 1000).view(-1, 1, 1, 1)
            return 1 - s, s
        a = self.alphas[t].view(-1, 1, 1, 1)
        return a.sqrt(), (1 - a).sqrt()

    def target(self, z: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """Return what the network is trained to predict from a z + s noise."""
        match self.kind:
            case "epsilon":
                return noise
            case "v_prediction":
                return a * noise - s * z
        return noise - z

    def weight(self, a: Tensor) -> Tensor:
        """Return the loss weight, [n, 1, 1, 1].

        An error in epsilon means a larger error in z the noisier x is. It is weighted as an error in v, up to 20 times.
        """
        return (1 / a.pow(2)).clamp(max=20.0) if self.kind == "epsilon" else torch.ones_like(a)

    def clean(self, prediction: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """Return the latents z that a prediction for x implies."""
        match self.kind:
            case "epsilon":
                return (x - s * prediction) / a
            case "v_prediction":
                return a * x - s * prediction
        return x - s * prediction
