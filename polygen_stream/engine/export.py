"""A part as an ONNX graph: torch.export, then ONNX, with the batch as the one dynamic dimension."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnxscript import optimizer
from torch import Tensor

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


@torch.no_grad()
def export_part(part: Part, module: torch.nn.Module, example: Mapping[str, Tensor], path: Path) -> None:
    """Write the graph of a part; its inputs and outputs carry the part's names.

    Args:
        example: one call's inputs, at least two rows (torch.export takes a batch of one for a constant).
        path: the .onnx file; a graph above 1 GiB gets a file of weights beside it.
    """
    outputs = list(part.call(module, example))
    rows = [{0: torch.export.Dim.DYNAMIC} for _ in example]
    flat = _Flat(part, module, list(example)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
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
            output_names=outputs,
        )
    # Folding turns what torch calls a split into the operator of that name; TensorRT has no sequences.
    optimizer.fold_constants(exported.model)
    optimizer.remove_unused_nodes(exported.model)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    exported.save(str(path), external_data=size > LARGE_BYTES)
    onnx.checker.check_model(str(path))
