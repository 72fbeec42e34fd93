# The virtual environment is made once, by whichever target needs it first.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: install run engines test browser lint

install: engines

# Again when the dependencies change. An editable install: source files need no reinstalling.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: polygen-stream needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -e '.[dev,evaluate,onnxruntime,openvino]'
	touch $@

# Compiled generators for the micro preset, built once into the cache; without them a run starts eager all the same.
engines: $(STAMP)
	-$(VENV)/bin/polygen-stream build-engines --jobs 2

run: engines
	$(VENV)/bin/polygen-stream run $(ARGS)

test: $(STAMP)
	$(VENV)/bin/python -m pytest $(ARGS)

# The report in Chromium. What is missing of a browser comes from Debian's packages, which takes root.
browser: $(STAMP)
	$(VENV)/bin/python -m pip install -q -e '.[browser]'
	command -v chromium || { apt-get update && apt-get install -y chromium; }
	$(VENV)/bin/python -m pytest -m browser tests/browser $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
