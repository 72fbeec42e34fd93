"""Every part of a generator as an ONNX graph, exported from tensors on each device; prints what is in the graphs.

python export.py RECIPE DEVICE ...
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx

from polygen_stream.engine.source import RandomSource
from polygen_stream.generators.recipe import Recipe, load_recipe


def describe(path: Path) -> dict:
    """Return the operators of a graph, and the types and shapes of its inputs, outputs and weights."""
    graph = onnx.load(path).graph
    name = onnx.TensorProto.DataType.Name
    ends = {
        end: [[value.name, name(value.type.tensor_type.elem_type)] for value in getattr(graph, end)]
        for end in ("input", "output")
    }
    weights = sorted([name(tensor.data_type), list(tensor.dims)] for tensor in graph.initializer)
    return {"operators": Counter(node.op_type for node in graph.node), "weights": weights, **ends}


def export(recipe: Recipe, device: str) -> dict[str, dict]:
    """Export every part, and describe the graphs by part."""
    with tempfile.TemporaryDirectory() as folder:
        source = RandomSource(recipe, Path(folder), lambda line: None, device)
        graphs = {}
        for part in recipe.engine.parts:
            where = str(next(source.module(part).parameters()).device)
            graphs[part] = {"device": where, **describe(source.graph(part))}
    return graphs


if __name__ == "__main__":
    print(json.dumps([export(load_recipe(sys.argv[1]), device) for device in sys.argv[2:]]))
