# `make` lists the targets. Each one that needs packages sets them up first (.venv, in a moment when nothing changed).
#   PYTHON=python3.12   another Python 3.11 or 3.12      FLAVOUR=gpu   CUDA packages instead of CPU ones; kept from then on
#   WORKERS=4           processes that run tests (2)      MINUTES=60  how long `make soak` and `make fuzz` take

PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
FLAVOUR ?=
WORKERS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python -m
TRITON := .venv-triton

# OpenMP threads that spin while they wait make a step many times slower on a busy machine.
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.PHONY: help setup cluster triton demo test test-quick lint docs docs-serve bench bench-data bench-train bench-models bench-serving bench-judging fuzz soak results proto lock wheel clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## make .venv and install the locked packages into it
	@test -n "$(PYTHON)" || { echo "set-up failed: no Python 3.11 or 3.12 was found; install one or say where: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) requirements/install.py --venv $(VENV) --flavour "$(FLAVOUR)"

cluster: setup ## PySpark, for `swrec prepare --engine cluster` and its tests; needs Java 17
	@cmp -s requirements/cluster.txt $(VENV)/.cluster.stamp && $(VENV)/bin/python -c 'import pyspark' 2>/dev/null || { \
		echo "set-up: PySpark (450 MB)" && $(RUN) pip install --quiet --disable-pip-version-check --no-deps -r requirements/cluster.txt \
		&& cp requirements/cluster.txt $(VENV)/.cluster.stamp; }

triton: setup ## .venv-triton: the compiler of our .proto files, and Triton's client for the tests of its protocol
	@cmp -s requirements/triton.txt $(TRITON)/.triton.stamp || { \
		echo "set-up: $(TRITON)" && $(RUN) venv --clear $(TRITON) \
		&& $(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/triton.txt \
		&& cp requirements/triton.txt $(TRITON)/.triton.stamp; }

demo: setup ## one way through on real data: prepare, train, evaluate, export, serve, score, backfill, gate
	@$(RUN) swrec_prod.launch.demo

test: setup cluster triton ## all tests
	@$(RUN) pytest -n $(WORKERS)

test-quick: setup ## the tests that start no process, prepare no data and need no Java
	@$(RUN) pytest -n $(WORKERS) -m "not (process or engine or slow)"

lint: setup ## style, format and types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

docs: setup ## build/site: all documents with reference pages made from the source, the tutorial run, links checked
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet
	@echo "build/site/index.html; with its search: make docs-serve"

docs-serve: setup ## the same on http://127.0.0.1:8000, made again when a file changes; the tutorial is not run
	@NO_MKDOCS_2_WARNING=1 SWREC_TUTORIAL=skip $(RUN) mkdocs serve

bench: bench-data bench-train bench-models bench-serving bench-judging ## all benchmarks

bench-data: setup ## speed and memory of simulate, prepare and the reader
	@$(RUN) benchmarks.data

bench-train: setup ## training speed against plain references, measured in the same run
	@$(RUN) benchmarks.train

bench-models: setup ## what a row costs with 3, 30, 100 and 355 scenarios, for every model
	@$(RUN) benchmarks.models

bench-serving: setup ## the server under load and overload, against its own no-op method and its own forwards
	@$(RUN) benchmarks.serving

bench-judging: setup ## what judging costs, and whether its intervals keep their word
	@$(RUN) benchmarks.judging

soak: setup ## the server under load with cancelled and hasty calls for MINUTES (30): throughput, memory, files
	@$(RUN) benchmarks.serving.soak --minutes $(or $(MINUTES),30)

fuzz: setup ## malformed messages, others each time, in each protocol and with sockets and without for MINUTES (10) each
	@FUZZ_MINUTES=$(or $(MINUTES),10) $(RUN) pytest tests/test_fuzz_serving.py -k malformed_messages

results: setup ## every model on every protocol of configs/results.yaml (hours; goes on where it stopped), then docs/results.md
	@$(RUN) benchmarks.results

proto: triton ## serving/protocol/ranking_pb2*.py from ranking.proto, and inference.binpb from inference.proto
	@$(TRITON)/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. swrec_prod/serving/protocol/ranking.proto
	@$(TRITON)/bin/python -m grpc_tools.protoc -I . --descriptor_set_out=swrec_prod/serving/protocol/inference.binpb swrec_prod/serving/protocol/inference.proto

lock: setup ## requirements/shared.txt from pyproject.toml; versions stay unless UPGRADE=1
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --extra dev --extra docs --extra gpu $(if $(UPGRADE),--upgrade) \
		--no-emit-package torch --no-emit-package fbgemm-gpu --annotation-style line --custom-compile-command "make lock" \
		pyproject.toml requirements/torch.in --output-file requirements/shared.txt

wheel: setup ## dist/swrec_prod-VERSION-py3-none-any.whl, to install elsewhere
	@rm -rf build/lib build/bdist.* # files of an earlier tree would be in the wheel
	@$(RUN) pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build/lib build/bdist.* *.egg-info

clean: ## remove what can be made again: environment, caches, build/
	rm -rf $(VENV) $(TRITON) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
