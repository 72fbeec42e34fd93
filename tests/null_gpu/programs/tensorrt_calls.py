"""The TensorRT backend's calls, through TensorRT's real Python bindings into libraries that do nothing.

python tensorrt_calls.py FOLDER          (the null libraries are loaded already)

Prints what the backend made. A call that the bindings refuse ends it: a name that is gone, a type, a missing argument.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tensorrt_bindings
import torch

from polygen_stream.engine.backends.base import Job
from polygen_stream.engine.backends.tensorrt import tensorrt
from polygen_stream.engine.backends.tensorrt_runtime import open_plans
from polygen_stream.engine.profile import Profile
from polygen_stream.generators.recipe import TensorRtSpec

PROFILE = Profile((1, 2, 4), {"x": (8,)}, {"x": "float32"})


def main() -> None:
    """Build, build from a plan, and run."""
    folder, backend = Path(sys.argv[1]), tensorrt()
    sys.modules["tensorrt"] = tensorrt_bindings  # what the package of that name imports
    version = tensorrt_bindings.__version__
    (metadata := folder / f"tensorrt-{version}.dist-info").mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {version}\n")
    sys.path.append(str(folder))
    graph, first, second = (folder / name for name in ("x.onnx", "first.plan", "second.plan"))
    graph.write_bytes(b"not read")
    options = TensorRtSpec(optimization_level=5, refit=True)
    for engine, base in ((first, None), (second, first)):
        first.touch()
        backend.compile(Job(graph=graph, engine=engine, profile=PROFILE, options=options, keep=folder, base=base))
    sessions = open_plans(tensorrt_bindings, {"unet": (second, PROFILE), "vae": (second, PROFILE)}, cuda_graphs=False)
    outputs = sessions["unet"].run({"x": torch.zeros(2, 8, device="cuda")})
    # What a build that fails asks for, and what returns a structure, which the null libraries cannot.
    others = {
        "DataType": ("FLOAT", "HALF", "BF16", "INT64", "INT32", "BOOL"),
        "IExecutionContext": ("get_tensor_shape",),
        "OnnxParser": ("num_errors", "get_error"),
        "OnnxParserRefitter": ("num_errors", "get_error"),
    }
    figures = {
        "version": version,
        "timings": [path.stat().st_size for path in folder.glob("*.timings")],
        "refitted": second.stat().st_size,
        "sessions": list(sessions),
        "outputs": list(outputs),
        "lacks": [
            f"{name}.{each}"
            for name, wanted in others.items()
            for each in wanted
            if not hasattr(getattr(tensorrt_bindings, name), each)
        ],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
