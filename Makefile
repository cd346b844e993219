# `make demo` and `make test` set everything up themselves; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## make the environment in .venv (done by the others when needed)

$(VENV)/.ready: pyproject.toml constraints.txt Testing/system_libraries.sh
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	bash Testing/system_libraries.sh
	$(PYTHON) -m venv $(VENV)
	# torch first and from the constraints: asked for by others it may arrive with gigabytes of CUDA.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,test]'
	touch $@

demo: setup ## segment phantoms in the real panel, compare, probe scales; results and pictures in demo/
	$(BIN)/python Testing/demo.py demo

# A process per core with one thread each; more than four would only want more memory.
test: setup ## run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: setup ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and the demo's results
	rm -rf $(VENV) demo
