# Two commands: `make demo` runs the whole program at small size, `make test` proves it. Needs Python 3.11 and nothing else.
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VERSION := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
INSTALLED := .venv/.installed-$(VERSION)
VALIDATORS := .venv/.validators-$(shell cksum < tests/validators.txt | cut -d' ' -f1)
DOCS := .venv/.docs-$(VERSION)
BIN := .venv/bin
# dvc.yaml says `python -m pipelines.x`: that is the one of .venv, also when it is not activated.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: help demo play release-asset test nightly gpu gpu-bundle faults soak lint format ui dag docs clean install validators fuzz
help:
	@echo "make demo   install, run dvc repro on the active profile, print timings, metrics, a verdict and what to try next"
	@echo "make play   drive a world model in your browser: yours, else one that lies in worlds/"
	@echo "make release-asset  the world of demo-long as one small signed bundle, worlds/demo: what make play opens before any training"
	@echo "make test   install, lint, run the tests (and, once, others' validators into .venv/validators)"
	@echo "make nightly  the longer tests: whole grids, FSDP2"
	@echo "make gpu    on a machine with a GPU: its tests, steps, rollouts, NCCL, losses, in resumable pieces of <= 10 min"
	@echo "make gpu-bundle  code, data and list of wheels for such a machine without a network, at most 60 MB"
	@echo "make faults inject every fault, print what came of each (5 min; fails when one is silent)"
	@echo "make soak   kill and resume stages at random (1 h; CYCLES=500 WORKERS=2 MINUTES=600 to choose)"
	@echo "make fuzz   1,000 changed bytes and 1,000 tampers, each found; 100 untouched chains, no alarm (about 20 minutes)"
	@echo "make lint   ruff and mypy         make format   rewrite the layout of the code"
	@echo "make ui     MLflow on 127.0.0.1   make dag      rewrite the code deps of dvc.yaml"
	@echo "make docs   the documentation as a site, with an API reference: build/site/index.html"
	@echo "make clean  remove artifacts, resume state and tracking (keeps .venv and the DVC cache)"

demo: $(INSTALLED)
	@$(BIN)/whale init
	@$(BIN)/dvc repro
	@echo && $(BIN)/whale timings
	@echo && $(BIN)/whale metrics

# Of the profile demo-long: `whale profile use demo-long && dvc repro` comes before, about 40 CPU minutes.
WORLD ?= artifacts/demo-long/models/dynamics/full
release-asset: $(INSTALLED)
	@$(BIN)/whale export $(WORLD) --as world --recorded --small --to worlds/demo
	@$(BIN)/whale lineage verify worlds/demo

play: $(INSTALLED)
	@$(BIN)/whale play

test: $(INSTALLED) $(VALIDATORS) lint
	@$(BIN)/whale init
	@$(BIN)/python -m pytest -rsE -n 2 --dist loadfile --no-loadscope-reorder

nightly: $(INSTALLED)
	@$(BIN)/python -m pytest -m nightly

# No installation: a machine with a GPU has its own torch.
gpu:
	@python scripts/gpu.py $(PIECES)

gpu-bundle: $(INSTALLED)
	@$(BIN)/python scripts/gpu.py bundle $(if $(SHARDS),--shards $(SHARDS))

faults: $(INSTALLED)
	@$(BIN)/python scripts/fault_table.py

CYCLES ?= 100
WORKERS ?= 0
MINUTES ?= 60
soak: $(INSTALLED)
	@$(BIN)/python scripts/soak.py --cycles $(CYCLES) --workers $(WORKERS) --minutes $(MINUTES)

fuzz: $(INSTALLED)
	@WHALE_FUZZ_CHANGES=1000 WHALE_FUZZ_UNTOUCHED=100 WHALE_FUZZ_TAMPERS=1000 $(BIN)/python -m pytest tests/audit/test_tamper.py tests/audit/test_tamper_fuzz.py -o timeout=3600 -k "single_byte or untouched or missed"

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

format: $(INSTALLED)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

ui: $(INSTALLED)
	@$(BIN)/whale track sync
	@echo "starting it here, which takes about 20 s; Ctrl-C ends it"
	@MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

dag: $(INSTALLED)
	@$(BIN)/python -m whale.planning.dag_file --write

docs: $(DOCS)
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict
	@echo "build/site/index.html (with search: python3 -m http.server -d build/site)"

clean:
	@rm -rf artifacts work mlruns mlflow.db

install: $(INSTALLED)

# The name holds a checksum of both files: only another content installs again.
$(INSTALLED):
	@test -n "$(PYTHON)" || { echo "error: no python3.11 found; install it, or say make PYTHON=/path/to/python3.11"; exit 64; }
	@$(PYTHON) scripts/install.py .venv
	@rm -f .venv/.installed-* && touch $@

# What `make test` needs to hold the lineage exports against the validators of others.
validators: $(VALIDATORS)

$(VALIDATORS): | $(INSTALLED)
	@$(PYTHON) scripts/install.py .venv validators
	@rm -f .venv/.validators-* && touch $@

# An environment of its own, so that nothing of these tools stands in the record of a run. They read code, they import none.
$(DOCS):
	@test -n "$(PYTHON)" || { echo "error: no python3.11 found; install it, or say make PYTHON=/path/to/python3.11"; exit 64; }
	@echo "installing the tools of the documentation (about 20 s)"
	@$(PYTHON) -m venv --clear .venv/docs
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv/docs/requirements.txt
	@.venv/docs/bin/pip install --quiet --no-input --disable-pip-version-check -c constraints.txt -r .venv/docs/requirements.txt
	@rm -f .venv/.docs-* && touch $@
