# `make run` runs the main job, `make test` passes the tests; each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-all check lint bench bench-data bench-peers gpu-check table report clean

run: .venv/ready        ## train linformer on short ListOps: accuracy, speed and memory in minutes
	$(BIN)/lra run --model linformer --task listops --config quick

test: .venv/ready       ## the tests, the slow ones too
	$(BIN)/pytest -n auto -m "not gpu and not tpu and not sweep"

test-all: .venv/ready   ## and the sweep: every mixer trained, besides
	$(BIN)/pytest -n auto -m "not gpu and not tpu"

check: .venv/ready      ## lint, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto -m "not slow and not sweep and not gpu and not tpu"

lint: .venv/ready       ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready      ## a training step of every model at 1,024 to 16,384 tokens: time, memory, ratios, share of the ceiling; goes on where it stopped
	$(BIN)/lra speed --out results/speed/speed.json

DATA ?= listops,parity,needle,induction-heads,mqar,copy,selective-copy,adding,pathfinder@quick,pathx@quick

bench-data: .venv/ready ## does the input keep up? examples a second made anew, in batches, and eaten by the fastest model
	@cache=$$(mktemp -d); trap 'rm -rf $$cache' EXIT; \
	LRA_CACHE=$$cache $(BIN)/lra data bench -t $(DATA) -m fnet --out results/speed/data.json

table: .venv/ready      ## every model on two short tasks, three seeds, hours: results/tables/quick.csv; goes on where it stopped
	-$(BIN)/lra matrix configs/matrix/quick.yaml
	$(BIN)/lra compare results/quick --format csv --out results/tables/quick.csv

bench-peers: .venv/ready .venv-peers/ready  ## our training steps against those of public PyTorch packages, in turn, in one run
	$(BIN)/python tests/peers/bench.py --theirs .venv-peers/bin/python --out results/speed/peers.json

# Tests compare with float32 products in full; the bench is run as one trains.
gpu-check: .venv/ready  ## with a GPU or a TPU and its JAX: the contract, the kernels, what is marked for it, and a bench
	@set -e; platform=$$($(BIN)/python -c 'import jax; print(jax.default_backend())'); \
	if [ $$platform = cpu ]; then \
		echo "gpu-check: JAX sees no GPU or TPU here; on a machine with one: $(BIN)/pip install -e '.[gpu]' (or '.[tpu]')" >&2; \
		exit 2; \
	fi; \
	export JAX_DEFAULT_MATMUL_PRECISION=highest; \
	$(BIN)/pytest tests/test_contract.py tests/kernels -m "not gpu and not tpu"; \
	$(BIN)/pytest -m $$platform; \
	unset JAX_DEFAULT_MATMUL_PRECISION; \
	$(BIN)/lra speed --out results/speed/$$platform.json

report: .venv/ready     ## the tables of what is in results/, and results/report.html to look at
	$(BIN)/lra compare results
	$(BIN)/lra report results/quick --speed results/speed/cpu.json --out results/report.html

clean:                  ## forget the environment and the tools' caches; results stay
	rm -rf .venv .venv-peers build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

# Only what the extra `peers` lists, without this package and its JAX; torch in the build for CPUs, which PyPI lacks.
TORCH ?= https://download.pytorch.org/whl/cpu

.venv-peers/ready: pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --upgrade pip
	$(BIN)/python -c "import tomllib; peers = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['peers']; \
		print(*peers, sep='\n')" > .venv-peers/requirements.txt
	grep ^torch .venv-peers/requirements.txt | .venv-peers/bin/pip install --quiet --index-url $(TORCH) -r /dev/stdin
	.venv-peers/bin/pip install --quiet -r .venv-peers/requirements.txt
	touch $@
