# `make run` runs the main job, `make test` passes the tests; each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test check lint bench report clean

run: .venv/ready        ## train linformer on short ListOps: accuracy, speed and memory in minutes
	$(BIN)/lra run --model linformer --task listops --config quick

test: .venv/ready       ## every test, the slow ones too
	$(BIN)/pytest -n auto -m "not gpu and not tpu"

check: .venv/ready      ## lint, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto -m "not slow and not gpu and not tpu"

lint: .venv/ready       ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready      ## a training step of every model at 1,024 to 16,384 tokens: time, memory, exponents, ratios
	$(BIN)/lra bench --out results/speed/bench.json

report: .venv/ready     ## the tables of what is in results/
	$(BIN)/lra compare results

clean:                  ## forget the environment and the tools' caches; results stay
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@
