# Each target sets up all it needs in .venv by itself; a second call installs nothing again.
PYTHON ?= python3
# gpu or cpu: which builds of torch and fbgemm
EXTRA  ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(EXTRA)

.PHONY: demo test test-slow test-gpu check

demo: $(READY)
	$(BIN)/python -m pipelines.rank --model din

test: check
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch and fbgemm come first and torchrec comes without its dependencies: pip would bring the CUDA build of fbgemm for it.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRA),dev]'
	$(BIN)/python -m pip install --quiet --no-deps torchrec==1.8.0
	touch $@
