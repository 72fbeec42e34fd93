"""The parts of a pipeline that can be compiled, each as a function of named tensors.

A compiled engine knows flat, named tensors; a diffusers pipeline calls its modules with positional arguments, keyword
arguments, nested dicts and flags. A `Part` translates, in one place per model class, and is used three times: to record
what a pipeline calls, to export the module, and to stand in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from polygen_stream.base.errors import UserError


class Part(Protocol):
    """How to call modules of one class. Every tensor has the batch as its first dimension."""

    method: str  # the method that the pipeline calls
    outputs: tuple[str, ...]  # names of what `call` returns, in order

    def inputs(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The tensors in a pipeline's call, by name, contiguous and with one row per batch element."""
        ...

    def call(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the module makes of them, by name. This is what is exported."""
        ...

    def result(self, outputs: Mapping[str, Tensor], /, *args: Any, **kwargs: Any) -> Any:
        """The outputs in the form in which the pipeline expects them of this call."""


def part_of(module: torch.nn.Module) -> Part:
    """The part that translates for a module.

    Raises:
        UserError: no part knows the module's class.
    """
    name = type(module).__name__
    if name not in PARTS:
        raise UserError(f"{name} cannot be compiled: engine.parts may name {', '.join(PARTS)}")
    return PARTS[name]


class _Denoiser:
    method: str = "forward"
    outputs: tuple[str, ...] = ("noise",)
    output = Transformer2DModelOutput

    def result(self, outputs: Mapping[str, Tensor], *_: Any, return_dict: bool = True, **__: Any) -> Any:
        return self.output(sample=outputs["noise"]) if return_dict else (outputs["noise"],)


class UNet(_Denoiser):
    """UNet2DConditionModel of the Stable Diffusion and SDXL families."""

    output = UNet2DConditionOutput

    def inputs(
        self,
        sample: Tensor,  # [rows, channels, height, width]
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,  # [rows, tokens, width]
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        return_dict: bool = True,
        **unsupported: Any,
    ) -> dict[str, Tensor]:
        """Name the tensors of a denoising call.

        Args:
            sample: Noisy latents [rows, channels, height, width].
            timestep: One time for all rows, or one per row [rows].
            encoder_hidden_states: Text embeddings [rows, tokens, width].
            added_cond_kwargs: Of SDXL: text_embeds [rows, width] and time_ids [rows, 6].
            return_dict: Form of the result; no part of the computation.
            **unsupported: Anything else that the pipeline passes; must be None or {}.

        Returns:
            sample, timestep (float32 [rows]), encoder_hidden_states, and SDXL's two tensors if there are any.

        Raises:
            UserError: The pipeline uses an argument that a compiled part does not take.
        """
        _refuse(unsupported)
        rows = len(sample)
        added = added_cond_kwargs or {}  # SDXL: text_embeds [rows, width], time_ids [rows, 6]
        return {
            "sample": sample.contiguous(),
            "timestep": _rows(timestep, rows, sample.device),
            "encoder_hidden_states": encoder_hidden_states.contiguous(),
            **{name: added[name].contiguous() for name in sorted(added)},
        }

    def call(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the UNet with named tensors.

        Args:
            module: A UNet2DConditionModel.
            inputs: As `inputs` returns them.

        Returns:
            noise: the model's prediction [rows, channels, height, width].
        """
        main = ("sample", "timestep", "encoder_hidden_states")
        # SDXL's embedding joins these to sines in float32. torch widens half precision for that by itself, and an
        # exported graph keeps a Concat of two types, which TensorRT refuses.
        added = {name: tensor.float() for name, tensor in inputs.items() if name not in main}
        out = module(*(inputs[name] for name in main), added_cond_kwargs=added or None, return_dict=False)
        return {"noise": out[0]}


class SanaTransformer(_Denoiser):
    """SanaTransformer2DModel."""

    def inputs(
        self,
        hidden_states: Tensor,  # [rows, channels, height, width]
        encoder_hidden_states: Tensor,  # [rows, tokens, width]
        timestep: Tensor,  # [rows]
        encoder_attention_mask: Tensor,  # [rows, tokens]
        return_dict: bool = True,
        **unsupported: Any,
    ) -> dict[str, Tensor]:
        """Name the tensors of a denoising call.

        Args:
            hidden_states: Noisy latents [rows, channels, height, width].
            encoder_hidden_states: Text embeddings [rows, tokens, width].
            timestep: One time per row [rows].
            encoder_attention_mask: 1 for tokens to attend to, else 0 [rows, tokens].
            return_dict: Form of the result; no part of the computation.
            **unsupported: Anything else that the pipeline passes; must be None or {}.

        Returns:
            sample, timestep (float32 [rows]), encoder_hidden_states, encoder_attention_mask (int64).

        Raises:
            UserError: The pipeline uses an argument that a compiled part does not take.
        """
        _refuse(unsupported)
        return {
            "sample": hidden_states.contiguous(),
            "timestep": _rows(timestep, len(hidden_states), hidden_states.device),
            "encoder_hidden_states": encoder_hidden_states.contiguous(),
            "encoder_attention_mask": encoder_attention_mask.to(torch.int64).contiguous(),
        }

    def call(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the transformer with named tensors.

        Args:
            module: A SanaTransformer2DModel.
            inputs: As `inputs` returns them.

        Returns:
            noise: the model's prediction [rows, channels, height, width].
        """
        out = module(
            inputs["sample"],
            inputs["encoder_hidden_states"],
            inputs["timestep"],
            encoder_attention_mask=inputs["encoder_attention_mask"],
            return_dict=False,
        )
        return {"noise": out[0]}


class SD3Transformer(_Denoiser):
    """SD3Transformer2DModel."""

    def inputs(
        self,
        hidden_states: Tensor,  # [rows, channels, height, width]
        encoder_hidden_states: Tensor,  # [rows, tokens, width]
        pooled_projections: Tensor,  # [rows, width]
        timestep: Tensor,  # [rows]
        return_dict: bool = True,
        **unsupported: Any,
    ) -> dict[str, Tensor]:
        """Name the tensors of a denoising call.

        Args:
            hidden_states: Noisy latents [rows, channels, height, width].
            encoder_hidden_states: Text embeddings [rows, tokens, width].
            pooled_projections: Pooled text embeddings [rows, width].
            timestep: One time per row [rows].
            return_dict: Form of the result; no part of the computation.
            **unsupported: Anything else that the pipeline passes; must be None or {}.

        Returns:
            sample, timestep (float32 [rows]), encoder_hidden_states, pooled_projections.

        Raises:
            UserError: The pipeline uses an argument that a compiled part does not take.
        """
        _refuse(unsupported)
        return {
            "sample": hidden_states.contiguous(),
            "timestep": _rows(timestep, len(hidden_states), hidden_states.device),
            "encoder_hidden_states": encoder_hidden_states.contiguous(),
            "pooled_projections": pooled_projections.contiguous(),
        }

    def call(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the transformer with named tensors.

        Args:
            module: An SD3Transformer2DModel.
            inputs: As `inputs` returns them.

        Returns:
            noise: the model's prediction [rows, channels, height, width].
        """
        out = module(
            inputs["sample"],
            inputs["encoder_hidden_states"],
            inputs["pooled_projections"],
            inputs["timestep"],
            return_dict=False,
        )
        return {"noise": out[0]}


class Decoder:
    """The decoding half of AutoencoderKL and AutoencoderDC."""

    method: str = "decode"
    outputs: tuple[str, ...] = ("image",)

    def inputs(
        self, z: Tensor, return_dict: bool = True, generator: object = None, **unsupported: Any
    ) -> dict[str, Tensor]:
        """Name the tensor of a decoding call.

        Args:
            z: Latents [rows, channels, height, width].
            return_dict: Form of the result; no part of the computation.
            generator: Not used in decoding.
            **unsupported: Anything else that the pipeline passes; must be None or {}.

        Returns:
            latents, contiguous.

        Raises:
            UserError: The pipeline uses an argument that a compiled part does not take.
        """
        _refuse(unsupported)
        return {"latents": z.contiguous()}  # [rows, channels, height, width]

    def call(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the decoder with named tensors.

        Args:
            module: An AutoencoderKL or AutoencoderDC.
            inputs: As `inputs` returns them.

        Returns:
            image: [rows, 3, height, width].
        """
        return {"image": cast(Any, module).decode(inputs["latents"], return_dict=False)[0]}

    def result(self, outputs: Mapping[str, Tensor], *_: Any, return_dict: bool = True, **__: Any) -> Any:
        """Wrap the decoded image as diffusers does: a DecoderOutput, or a tuple if `return_dict` is False."""
        return DecoderOutput(sample=outputs["image"]) if return_dict else (outputs["image"],)


class TextEncoder:
    """CLIPTextModel, CLIPTextModelWithProjection, Gemma2Model.

    Stable Diffusion and SANA take the first output, SDXL and SD 3 also the last hidden state but one; it costs nothing
    to have both.
    """

    method: str = "forward"
    outputs: tuple[str, ...] = ("first", "penultimate")

    def inputs(
        self,
        input_ids: Tensor,  # [rows, tokens]
        attention_mask: Tensor | None = None,
        output_hidden_states: bool = True,
        **unsupported: Any,
    ) -> dict[str, Tensor]:
        """Name the tensors of an encoding call.

        Args:
            input_ids: Token ids [rows, tokens].
            attention_mask: 1 for tokens to attend to, else 0 [rows, tokens].
            output_hidden_states: Not used: the engine always returns the last hidden state but one.
            **unsupported: Anything else that the pipeline passes; must be None or {}.

        Returns:
            input_ids and, if given, attention_mask, both int64.

        Raises:
            UserError: The pipeline uses an argument that a compiled part does not take.
        """
        _refuse(unsupported)
        named = {"input_ids": input_ids}
        if attention_mask is not None:
            named["attention_mask"] = attention_mask
        return {name: tensor.to(torch.int64).contiguous() for name, tensor in named.items()}

    def call(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the text encoder with named tensors.

        Args:
            module: A CLIPTextModel, CLIPTextModelWithProjection or Gemma2Model.
            inputs: As `inputs` returns them.

        Returns:
            first: the model's first output. penultimate: the last hidden state but one [rows, tokens, width].
        """
        out = module(**inputs, output_hidden_states=True)
        return {"first": out[0], "penultimate": out.hidden_states[-2]}

    def result(self, outputs: Mapping[str, Tensor], *_: Any, **__: Any) -> Any:
        """Wrap the outputs as transformers does; the last hidden state is None among `hidden_states`."""
        # The last hidden state is not among the outputs: None in its place, so that using it fails.
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs["first"], hidden_states=cast(Any, (outputs["penultimate"], None))
        )


PARTS: dict[str, Part] = {
    "UNet2DConditionModel": UNet(),
    "SanaTransformer2DModel": SanaTransformer(),
    "SD3Transformer2DModel": SD3Transformer(),
    "AutoencoderKL": Decoder(),
    "AutoencoderDC": Decoder(),
    "CLIPTextModel": TextEncoder(),
    "CLIPTextModelWithProjection": TextEncoder(),
    "Gemma2Model": TextEncoder(),
}


def _rows(timestep: Tensor | float, rows: int, device: torch.device) -> Tensor:
    """One float32 time per row: half precision cannot tell 999 from 998.5, and schedulers disagree on the type."""
    return torch.as_tensor(timestep, dtype=torch.float32, device=device).reshape(-1).expand(rows).contiguous()


def _refuse(unsupported: Mapping[str, Any]) -> None:
    """What a pipeline passes as None or {} is not in use; anything else would silently be left out of the engine."""
    used = [name for name, value in unsupported.items() if value is not None and value != {}]
    if used:
        raise UserError(f"a compiled part takes no {', '.join(used)}: run this generator with generators.backend eager")
