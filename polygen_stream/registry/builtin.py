"""The registries, with the package's own parts. A new part of the package is a line here."""

from __future__ import annotations

from polygen_stream.registry.registry import Registry

_OF_A_BACKEND = (
    "package", "extra", "suffix", "device", "bf16", "quantizes", "target", "flags", "runs_here", "compile", "open",
)  # fmt: skip

CAPTION_SOURCES = Registry(
    key="captions.source",
    kind="caption source",
    parts={
        "transformers": "polygen_stream.captions.sources:language_model_source",
        "vllm": "polygen_stream.captions.sources:language_model_source",
        "openai": "polygen_stream.captions.sources:language_model_source",
        "grammar": "polygen_stream.captions.sources:grammar_source",
    },
    positional=("config",),
    keywords=(),
    contract="CaptionSource in polygen_stream/captions/base.py",
    others=("shards",),  # a reader of finished captions and images instead of captioner and renderers
)

ENGINE_BACKENDS = Registry(
    key="generators.backend",
    kind="engine backend",
    parts={
        "onnxruntime": "polygen_stream.engine.backends.onnxruntime:OnnxRuntime",
        "openvino": "polygen_stream.engine.backends.openvino:openvino_float32",
        "openvino-bf16": "polygen_stream.engine.backends.openvino:openvino_bfloat16",
        "tensorrt": "polygen_stream.engine.backends.tensorrt:tensorrt",
        "tensorrt-rtx": "polygen_stream.engine.backends.tensorrt:tensorrt_rtx",
    },
    positional=(),
    keywords=(),
    contract="Backend in polygen_stream/engine/backends/base.py",
    others=("eager", "torch-compile"),  # without engines
    offers=_OF_A_BACKEND,
)

OBJECTIVES = Registry(
    key="train.objective",
    kind="training objective",
    parts={
        "multi_positive": "polygen_stream.train.objectives:multi_positive",
        "negclip": "polygen_stream.train.objectives:negclip",
        "infonce": "polygen_stream.train.objectives:infonce",
    },
    positional=("image_features", "text_features", "logit_scale", "index"),
    keywords=("image_image_features", "config", "group"),
    contract="Objective in polygen_stream/train/objectives.py",
)

SAMPLERS = Registry(
    key="ring.sampler",
    kind="ring sampler",
    parts={"rounds": "polygen_stream.ring.sampler:select", "uniform": "polygen_stream.ring.sampler:select_uniformly"},
    positional=("groups", "seed", "step", "plain", "pair", "first"),
    keywords=(),
    contract="Sampler in polygen_stream/ring/sampler.py",
)

POLICIES = Registry(
    key="synthesis.policy",
    kind="synthesis policy",
    parts={
        "uniform": "polygen_stream.synthesis.uniform:Uniform",
        "hardest": "polygen_stream.synthesis.hardest:Hardest",
        "progress": "polygen_stream.synthesis.progress:Progress",
    },
    positional=("config",),
    keywords=(),
    contract="Policy in polygen_stream/synthesis/policy.py",
)

REGISTRIES = (CAPTION_SOURCES, ENGINE_BACKENDS, OBJECTIVES, POLICIES, SAMPLERS)
