"""Graphs in 8 bits: explicit quantisation by NVIDIA's ModelOpt, for the TensorRT backends.

TensorRT has no calibrators and no precision flags any more: what is computed in 8 bits is what lies between a
QuantizeLinear and a DequantizeLinear of the graph. ModelOpt puts them there, where TensorRT can fuse them; their scales
come from calls that the pipeline really made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.engine.record import Inputs


def quantize_graph(graph: Path, calls: Sequence[Inputs], kind: Literal["fp8", "int8"], result: Path) -> None:
    """Write a graph with quantised convolutions and matrix products; the rest keeps its type.

    The graph is run on the CPU to see the range of its values, so it may be float32 or float16, not bfloat16.

    Args:
        graph: The ONNX file to read.
        calls: With named inputs [rows, ...] as the pipeline passed them.
        kind: Type of the quantised values.
        result: The ONNX file to write.

    Raises:
        UserError: ModelOpt is not installed.
    """
    try:
        from modelopt.onnx.quantization import quantize
    except ImportError as problem:
        raise UserError(
            f"engine.tensorrt.quantize needs nvidia-modelopt ({problem}): pip install 'polygen-stream[modelopt]', "
            "or leave the key out"
        ) from None
    quantize(
        str(graph),
        quantize_mode=kind,
        calibration_data={name: np.concatenate([call[name].numpy(force=True) for call in calls]) for name in calls[0]},
        calibration_method="max",  # the only one that ModelOpt's fp8 is right with
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",  # which leaves every other type as the graph has it
        use_external_data_format=graph.with_name(f"{graph.name}.data").exists(),
        output_path=str(result),
        log_level="ERROR",
    )
