# Two targets do all the set-up: `make demo` and `make test`. Both install into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast fuzz lint docs clean

demo: $(VENV)/.installed
	$(BIN)/ulsam-keras convert examples/digits/digits_ulsam.pth \
		--model examples/digits/model.py:build \
		--reference examples/digits/reference.npz \
		--output-dir out/digits

# One worker a core, four at most: each loads TensorFlow and PyTorch.
WORKERS := -n auto --maxprocesses 4 --dist loadfile

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(WORKERS)

# What one edits against: the slow tests left out.
test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

# Guided by coverage, which needs atheris; what it finds is in out/fuzz. The suite has a bounded run.
SECONDS ?= 600
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet "atheris>=3"
	$(BIN)/python -m fuzz --seconds $(SECONDS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Into out/docs, with no package of this project's imported; a warning is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.installed-docs: pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[convert]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
