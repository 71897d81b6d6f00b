# `make run` runs the main job, `make test` passes the tests; each sets up its virtual environment by itself: .venv, and
# .venv-3.12 for `PYTHON=python3.12`, from the path or from pyenv.
PYTHON ?= python3
FOUND := $(shell .ci/python $(PYTHON))
VERSION := $(if $(FOUND),$(shell $(FOUND) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(VERSION))
SAME := $(wildcard $(VENV)/lib/python$(VERSION))
BIN := $(VENV)/bin
READY := $(VENV)/ready
DOCS := $(VENV)/ready-docs
AOT := $(subst .venv,.venv-aot,$(VENV))/ready

# The package is imported by hundreds of processes: what is compiled once is kept, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-rest test-all test-aot check lint bench bench-data bench-peers gpu-check gpu-test wheelhouse table report dist docs clean anew

run: $(READY)           ## train linformer on short ListOps: accuracy, speed and memory in minutes
	$(BIN)/lra run --model linformer --task listops --config quick

# Neighbors in one process, which compile and train once for all of them. One process more than cores: children are waited for.
SHARED := -n $(shell expr $$(nproc 2>/dev/null || echo 2) + 1) --dist worksteal

test: $(READY)          ## the tests, 6 to 10 minutes on two cores; PYTHON=python3.13 for another Python
	$(BIN)/pytest $(SHARED) -m "not slow and not sweep and not gpu and not tpu"

PART ?= 1/1

test-rest: $(READY)     ## the slow ones, which `make test` leaves out; PART=2/3 for those of every third file
	$(BIN)/pytest $(SHARED) --part $(PART) -m "slow and not sweep and not gpu and not tpu"

test-all: $(READY)      ## all of these, every mixer trained, and further cases
	$(BIN)/pytest $(SHARED) -m "not gpu and not tpu"

test-aot: $(AOT)        ## five steps compiled for an H100 and a TPU v5e that are not here; installs their compilers, 4 GB
	$(dir $(AOT))bin/pytest tests/estimates

check: $(READY)         ## lint, types and `make test`
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory test

lint: $(READY)          ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)         ## a training step of every model at 1,024 to 16,384 tokens: time, memory, ratios, % of peak; resumes where it stopped
	$(BIN)/lra speed --out results/speed/speed.json

DATA ?= listops,parity,needle,induction-heads,recall-one,copy,selective-copy,adding,pathfinder@quick,pathx@quick

bench-data: $(READY)    ## does the input keep up? examples a second: made, in batches, and consumed by the fastest model
	@cache=$$(mktemp -d); trap 'rm -rf $$cache' EXIT; \
	LRA_CACHE=$$cache $(BIN)/lra data bench -t $(DATA) -m fnet --out results/speed/data.json

table: $(READY)         ## every model on two short tasks, three seeds, hours: results/tables/quick.csv; resumes where it stopped
	-$(BIN)/lra sweep configs/sweeps/quick.yaml
	$(BIN)/lra compare results/quick --format csv --out results/tables/quick.csv

bench-peers: $(READY) .venv-peers/ready  ## our training steps against those of public PyTorch packages, in turn, in one run
	$(BIN)/python tests/peers/bench.py --theirs .venv-peers/bin/python --out results/speed/peers.json

MINUTES ?= 8
TRAINED := linformer,softmax,nystromformer,performer,reformer

# Where there is no environment yet, a Python that has all this needs none, and may have no network to make one with.
CHECKED := jax, flax, optax, orbax, numpy, pydantic, yaml, jaxtyping

gpu-check:              ## with a GPU or a TPU and its JAX: what it is asked in MINUTES, most valuable first; resumes where it stopped
	@set -e; python=$(FOUND); \
	if [ -e $(READY) ] || ! $$python -c 'import importlib.util, sys; sys.exit(None in map(importlib.util.find_spec, "$(CHECKED)".split(", ")))'; then \
		$(MAKE) --no-print-directory $(READY); python=$(BIN)/python; \
	fi; \
	platform=$$($$python -c 'import jax; print(jax.default_backend())'); \
	if [ $$platform = cpu ]; then \
		echo "gpu-check: JAX sees no GPU or TPU here; on a machine with one: $$python -m pip install -e '.[gpu]' (or '.[tpu]')" >&2; \
		exit 2; \
	fi; \
	$$python -m lra_bench.gpu_check --minutes $(MINUTES) -t listops --train $(TRAINED) --out results/$$platform

gpu-test: $(READY)      ## there, the contract, the kernels and what is marked for such a device; products of float32 in full
	JAX_DEFAULT_MATMUL_PRECISION=highest $(BIN)/pytest tests/conformance tests/kernels -m "not gpu and not tpu"
	JAX_DEFAULT_MATMUL_PRECISION=highest $(BIN)/pytest -m "gpu or tpu"

wheelhouse: $(READY)    ## what a GPU machine without a network lacks beside JAX, NumPy and SciPy, for Python 3.12: wheelhouse/
	.ci/wheelhouse $(BIN)/python wheelhouse

# Twelve well-known models, for the figure of the README.
SHOWN ?= softmax[impl=auto],reformer,longformer,linformer,performer,bigbird,linear,nystromformer,fnet,synthesizer,s4d,mega

report: $(READY)        ## the tables of what is in results/, results/report.html to look at, and the figure of the README
	$(BIN)/lra compare results
	$(BIN)/lra report results/laptop results/recall results/bytes --speed results/speed/cpu.json --out results/report.html
	$(BIN)/lra plot --kind scaling --speed results/speed/cpu.json -m '$(SHOWN)' --out docs/figures/step-time.svg

dist: $(READY)          ## the package as it is published, in dist/, and checked
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

docs: $(DOCS)           ## the site, in docs/_build/html; a warning is an error, and three notebooks are executed
	$(BIN)/python -m sphinx -W -n --keep-going -b html docs docs/_build/html

clean:                  ## forget the environments, the site and the tools' caches; results stay
	rm -rf .venv .venv-* wheelhouse build dist docs/_build docs/reference .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One that another Python made is made anew.
$(READY): pyproject.toml $(if $(SAME),,anew)
	$(if $(FOUND),,$(error PYTHON=$(PYTHON): no such Python here, on the path or by pyenv))
	$(FOUND) -m venv $(if $(SAME),,--clear) $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

$(AOT): pyproject.toml
	$(FOUND) -m venv $(dir $@)
	$(dir $@)bin/pip install --quiet --upgrade pip
	$(dir $@)bin/pip install --quiet -e '.[dev,aot]'
	touch $@

$(DOCS): $(READY)
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

# Only what the extra `peers` lists, without this package and its JAX; torch in the build for CPUs where that is reached,
# else PyPI's.
TORCH ?= https://download.pytorch.org/whl/cpu

.venv-peers/ready: pyproject.toml
	$(FOUND) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --upgrade pip
	$(BIN)/python -c "import tomllib; peers = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['peers']; \
		print(*peers, sep='\n')" > .venv-peers/requirements.txt
	-grep ^torch .venv-peers/requirements.txt | .venv-peers/bin/pip install --quiet --retries 1 --index-url $(TORCH) -r /dev/stdin
	.venv-peers/bin/pip install --quiet -r .venv-peers/requirements.txt
	touch $@
