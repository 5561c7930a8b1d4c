# `make demo` and `make test` need nothing but python3 (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BACKENDS := tensorflow jax torch
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help install demo test test-slow test-oldest web-test lint clean

help:
	@echo "make demo       train, score, draw and export on the shipped tiles"
	@echo "make test       all tests, on TensorFlow, JAX and PyTorch in turn"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make test-oldest  all tests with the oldest Keras that is supported"
	@echo "make web-test   the demo page, end to end in headless Chromium"
	@echo "make lint       check format and style"

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

# The libraries that models are plugged together with in tests/neighbours.
$(VENV)/neighbours: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[neighbours]' \
	    || echo "KerasHub and KerasCV cannot be installed: their tests are skipped."
	touch $@

demo: install
	$(BIN)/python recipes/demo.py --out demo-output

define pytest
	set -e; for backend in $(BACKENDS); do \
	    echo "== $$backend"; \
	    KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q -n 2 --dist loadfile -m $(1); \
	done
endef

test: $(VENV)/neighbours lint
	$(call pytest,'not slow')

test-slow: $(VENV)/neighbours
	$(call pytest,slow)

# pyproject.toml's oldest Keras, in front of the tested one.
test-oldest: export PYTHONPATH := $(abspath $(VENV)/oldest)
test-oldest: $(VENV)/neighbours
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/oldest keras==3.12.0
	$(call pytest,'not slow')

web-test: install
	sh web/install.sh
	$(BIN)/pip install --quiet --constraint constraints.txt playwright==1.65.2
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -q -rP web

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) demo-output build dist *.egg-info
