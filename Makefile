# `make tiny` trains the tiny model, `make test` runs the tests; both create .venv first if it does not exist.

PYTHON ?= python3
VENV   ?= .venv
TIER   ?= tiny
BIN     = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: help setup tiny small chat test test-slow lint clean

help:
	@echo "make setup      create an environment in $(VENV) with the pinned dependencies"
	@echo "make tiny       train the tiny model (about 5 minutes)"
	@echo "make small      train the small model (about 30 minutes)"
	@echo "make chat       chat with tiny, trained and fine-tuned first if needed (TIER=small: with small)"
	@echo "make test       run the quick tests"
	@echo "make test-slow  run the slow tests"
	@echo "make lint       check style and types"
	@echo "make clean      remove the environment"

setup: $(VENV)/.ready

# scripts/install.py creates the marker last, so an interrupted set-up is repeated.
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
