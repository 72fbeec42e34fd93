"""A part as an ONNX graph: torch.export, then ONNX, with the batch as the one dynamic dimension."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript import optimizer
from torch import Tensor
from torch.overrides import TorchFunctionMode

from polygen_stream.engine.key import OPSET
from polygen_stream.engine.parts import Part

LARGE_BYTES = 1 << 30  # protobuf ends at 2 GiB: weights of larger graphs lie in a file beside it


class _Flat(torch.nn.Module):
    """A part as a module from tensors to tensors, the only form that torch.export accepts for all of them."""

    def __init__(self, part: Part, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.part, self.module, self.names = part, module, tuple(names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.part.call(self.module, dict(zip(self.names, tensors, strict=True))).values())


class _Float32Attention(TorchFunctionMode):
    """Multiplies queries and keys in float32 and the probabilities with the values in their own type.

    The products are what leaves half precision's range (SD 2); torch's own kernels sum them in float32, an exported
    graph says what its tensors' types say.
    """

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _attention(*args, **(kwargs or {}))


def _attention(
    query: Tensor,  # [rows, heads, tokens, width]
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    assert attn_mask is None and not is_causal and dropout_p == 0.0  # a UNet's
    scores = query.float() @ key.float().mT * (scale or query.shape[-1] ** -0.5)
    return scores.softmax(dim=-1).to(value.dtype) @ value


@torch.no_grad()
def export_part(
    part: Part, module: torch.nn.Module, example: Mapping[str, Tensor], path: Path, float32_attention: bool = False
) -> None:
    """Write the graph of a part; its inputs and outputs carry the part's names.

    Args:
        part: Translates for the module.
        module: The torch module to export.
        example: One call's inputs [rows, ...], at least two rows (torch.export takes a batch of one for a constant).
        path: The .onnx file; a graph above 1 GiB gets a file of weights beside it.
        float32_attention: Of a UNet, see `_Float32Attention`.
    """
    rows = [{0: torch.export.Dim.DYNAMIC} for _ in example]
    flat = _Flat(part, module, list(example)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        with _Float32Attention() if float32_attention else nullcontext():
            program = torch.export.export(flat, tuple(example.values()), dynamic_shapes=(tuple(rows),), strict=False)
        # Without the exporter's rewriting: it takes the 1e-15 that SANA's linear attention adds to its denominator for
        # a zero and drops the addition. Every backend has an optimizer of its own.
        exported = torch.onnx.export(
            program,
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(part.outputs),
        )
    assert exported is not None, "the dynamo exporter returns a program"
    # Folding turns what torch calls a split into the operator of that name; TensorRT has no sequences.
    optimizer.fold_constants(exported.model)
    optimizer.remove_unused_nodes(exported.model)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    exported.save(str(path), external_data=size > LARGE_BYTES)
    onnx.checker.check_model(str(path))
