"""What vLLM makes of the captioner's arguments on a GPU, as far as vLLM decides that before it touches one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.capacity.memory import PROMPT_TOKENS, _token_bytes
from polygen_stream.config import load_config

pytestmark = pytest.mark.vllm
PROGRAM = Path(__file__).resolve().parents[1] / "helpers" / "vllm_gpu_config.py"
INSPECT = """
import sys
from vllm import AsyncEngineArgs
for folder in sys.argv[1:]:
    AsyncEngineArgs(model=folder, max_model_len=1024).create_model_config()
"""
# As the repositories of the shipped configs have them.
PUBLISHED = {
    "mistralai/Mistral-7B-Instruct-v0.2": {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None,
        "vocab_size": 32000, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    },
    "meta-llama/Llama-3.1-8B-Instruct": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "vocab_size": 128256,
        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 128000, "eos_token_id": 128009,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["node_8gpu", "single_gpu"])
def test_the_engines_of_a_shipped_config_share_a_gpu_as_planned(name: str, tmp_path: Path):
    captions = load_config(name).captions
    models, folders = list(dict.fromkeys((captions.writer, captions.editor))), []
    for number, model in enumerate(models):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        (folders[-1] / "config.json").write_text(json.dumps(PUBLISHED[model]))
    environment = {**os.environ, "VLLM_CACHE_ROOT": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    # vLLM imports a model's class once to learn what it is. Here that works on the CPU only, and is kept in the cache.
    for command in ([sys.executable, "-c", INSPECT, *folders], [sys.executable, PROGRAM, name, *folders]):
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    engines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert engines == [
        {
            "device": "cuda",
            "dtype": "torch.bfloat16",
            "context": PROMPT_TOKENS,
            "requests": captions.batch,
            "share": captions.gpu_memory_utilization,
            "sleeps": captions.sleep_after_s > 0,
            "eager": False,
            "token_bytes": _token_bytes(model),
            "world": 1,
        }
        for model in models
    ]
    assert sum(engine["share"] for engine in engines) <= 0.9
