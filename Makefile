# `make tiny` trains the tiny model, `make test` runs the suite; both set up .venv first, if it is not there.

PYTHON ?= python3
VENV   ?= .venv
TIER   ?= tiny
BIN     = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: help setup tiny small chat test test-slow lint clean

help:
	@echo "make setup      an environment in $(VENV) with the pinned dependencies"
	@echo "make tiny       train the tiny model (about 5 minutes)"
	@echo "make small      train the small model (about 30 minutes)"
	@echo "make chat       talk to tiny; trains and fine-tunes it first, if that has not been done (TIER=small: to small)"
	@echo "make test       the quick tests"
	@echo "make test-slow  the slow tests"
	@echo "make lint       style and types"
	@echo "make clean      remove the environment"

setup: $(VENV)/.ready

# The marker is made last: a set-up that was interrupted is done again.
$(VENV)/.ready: pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py $(VENV)

tiny small: setup
	$(BIN)/python cli.py fit --config configs/$@.yaml

# --ckpt_path=auto continues a run that was interrupted.
chat: setup
	@grep -qs '"complete": true' lightning_logs/$(TIER)/version_*/summary.json || \
		$(BIN)/python cli.py fit --config configs/$(TIER).yaml --ckpt_path=auto
	@grep -qs '"complete": true' lightning_logs/$(TIER)-chat/version_*/summary.json || \
		$(BIN)/python cli.py fit --config configs/$(TIER).yaml --config configs/chat.yaml --ckpt_path=auto
	@$(BIN)/python cli.py chat --name=$(TIER)

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV)
