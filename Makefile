# Two commands do all the set-up: `make demo` runs the main job, `make test` runs the tests.
.PHONY: setup demo test test-full lint lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/.uv/bin/uv

setup: $(VENV)/.ready

# uv itself comes from pip, into a corner of the environment; everything else from the lock file, by hash.
$(VENV)/.ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || { $(PYTHON) -m venv $(VENV)/.uv && $(VENV)/.uv/bin/pip install --quiet uv; }
	$(UV) pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# Train on scikit-learn's handwritten digits, which come with the dependencies.
demo: setup
	$(BIN)/sightline fit digits

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m "not full" -n 2 --dist loadfile -rs

test-full: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -rs

lock:
	$(UV) pip compile pyproject.toml --extra parquet --extra clip --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
