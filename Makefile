# `make demo`, `make web` and `make test` do all the set-up. They install into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo web examples arm64 test test-fast fuzz lint docs clean

demo: $(VENV)/.installed
	$(BIN)/ulsam-keras convert examples/digits/digits_ulsam.pth \
		--model examples/digits/model.py:build \
		--reference examples/digits/reference.npz \
		--output-dir out/digits

# The page that runs a file in the browser, with what it needs: LiteRT.js and the digits network.
WEB := examples/web
web: $(WEB)/node_modules $(WEB)/digits.tflite
	@echo "Now: $(BIN)/python -m http.server --bind 127.0.0.1 --directory $(WEB)"
	@echo "and open http://localhost:8000 in a browser."

$(WEB)/node_modules: $(WEB)/package-lock.json
	npm ci --prefix $(WEB) --no-fund --no-audit
	touch $@

$(WEB)/digits.tflite: examples/digits/digits_ulsam.pth $(VENV)/.installed
	$(BIN)/ulsam-keras convert $< --model examples/digits/model.py:build --with-attention \
		--reference examples/digits/reference.npz --precision float32 --name digits --no-gpu \
		--output-dir out/web
	cp out/web/digits_float32.tflite $@

# Converted files as arm64 computes them, under QEMU, beside x86-64.
arm64: $(VENV)/.installed-dev
	scripts/arm64.sh
	PYTHONPATH=.:tests $(BIN)/python -W ignore scripts/arm64.py

# The tutorials, each in its full setting; `make examples ONLY=qat` runs one.
ONLY ?= functional_api finetuning pytorch_network qat sites workers_tensorflow workers_jax
examples: $(VENV)/.installed-dev
	for name in $(ONLY); do echo "== $$name"; $(BIN)/python examples/$$name.py || exit 1; done

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
