# Each target sets up the environment it needs in .venv; a second call installs nothing.
PYTHON ?= python3
# gpu or cpu: the builds of torch and fbgemm
EXTRA  ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
# constraints.txt for the tested versions; empty for the newest
CONSTRAINTS ?=
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(EXTRA)$(if $(CONSTRAINTS),-constrained)

OLDEST := .venv-oldest

.PHONY: help demo test test-slow test-gpu test-oldest check format docs wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

demo: $(READY) ## generate data, train DIN and evaluate it out-of-fold
	$(BIN)/python -m pipelines.rank --config configs/toss_encoded.yaml --model din

test: check ## check, then the tests (without the slow ones)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(READY) ## the tests that take more than a minute
	$(BIN)/python -m pytest -m slow

test-gpu: $(READY) ## the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

test-oldest: ## the tests of training with the oldest torch, torchrec and fbgemm, on a CPU
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet torch==2.11.0 fbgemm-gpu-cpu==1.6.0
	$(OLDEST)/bin/python -m pip install --quiet --editable . hypothesis pytest faiss-cpu iopath pyre-extensions tensordict torchmetrics tqdm
	$(OLDEST)/bin/python -m pip install --quiet --no-deps torchrec==1.6.1
	$(OLDEST)/bin/python -m pytest tests/recsys/data tests/recsys/nn tests/recsys/training tests/ranking
	TRITON_INTERPRET=1 $(OLDEST)/bin/python -m pytest -m gpu tests/gpu/test_kernels.py

check: $(READY) ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## format the code and sort its imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation in build/site, with strict links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(READY) ## build the wheel in build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .

clean: ## remove the environment and caches; data/, prepared/ and runs/ stay
	rm -rf $(VENV) $(OLDEST) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch and fbgemm come first and torchrec without its dependencies: with them pip would install the CUDA build of fbgemm.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[$(EXTRA),dev,docs,serve]'
	$(BIN)/python -m pip install --quiet --no-deps torchrec==1.8.0
	touch $@
