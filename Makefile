# Every target sets up what it needs: a virtual environment in .venv (see .ci/install), once.
#
#   make demo STEPS=20      a short trial, in runs/demo-20
#   make demo RUN=runs/two  the demo in another run folder
#   make test-ray           needs byways[ray]; BYWAYS_TEST_RAY=host:port uses a Ray that is there
#   make PYTHON=python3.12  another interpreter; ACCELERATOR=cpu leaves a GPU alone

VENV ?= .venv
STEPS ?=
RUN ?= runs/demo$(if $(STEPS),-$(STEPS))
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

BIN := $(VENV)/bin
READY := $(VENV)/.byways-ready
export PYTHON ACCELERATOR

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-ray lint setup clean clean-demo

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## Train a small LIMoE on the emoji art, evaluate it, write its report
	@if grep -qs '"finished": true' $(RUN)/status.json; then \
	  echo "$(RUN) is trained already: evaluating it again (\`make clean-demo\` starts over," \
	    "\`make demo RUN=runs/two\` trains another)"; \
	else set -x; \
	  $(BIN)/byways train limoe_tiny --run $(RUN) $(if $(STEPS),--steps $(STEPS)); \
	fi
	$(BIN)/byways evaluate $(RUN)
	$(BIN)/byways report $(RUN)

test: $(READY)  ## Run the tests
	$(BIN)/pytest $(PYTEST_ARGS)

test-all: $(READY)  ## Run the tests, the slow ones too
	BYWAYS_TEST_OPTIMISED=1 $(BIN)/pytest $(PYTEST_ARGS) -m "slow or not slow"

test-ray: $(READY)  ## Run the local runtime's tests on islands in other processes
	BYWAYS_TEST_ISLANDS=ray $(BIN)/pytest -W ignore tests/runtime

lint: $(READY)  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/link_package.py
	$(BIN)/pyright --pythonpath $(BIN)/python build/package/byways

setup: $(READY)  ## Make the virtual environment only

$(READY): pyproject.toml .ci/install $(wildcard constraints/*.txt)
	@.ci/install $(VENV)
	@touch $@

clean-demo:  ## Remove the demo's run folder
	@test ! -e $(RUN) || test -f $(RUN)/config.json || { echo "$(RUN) is no run folder"; exit 1; }
	rm -rf $(RUN)

clean:  ## Remove the virtual environment, caches and build files; runs/ stays
	rm -rf $(VENV) build dist .cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
