# The main commands are `make demo` and `make test`. Each is complete on a fresh clone with only
# Python >= 3.11, pip and make; a second run does not install again unless pyproject.toml changed.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PHOTOS ?=

.PHONY: demo test test-area slow lint style types imports docs install clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	$(BIN)/geovision demo --out demo $(if $(PHOTOS),--photos "$(PHOTOS)")

# Run the tests in two processes; `make test WORKERS=8` uses more.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# `make test COVERAGE=95` also measures the coverage by the tests, and fails below this percentage.
COVERAGE ?=

test: $(INSTALLED)
	$(PYTEST) $(if $(COVERAGE),--cov --cov-report=term --cov-fail-under=$(COVERAGE))

# Run the tests of one package: `make test-area AREA=metrics`.
test-area: $(INSTALLED)
	@test -d "tests/$(AREA)" && test -n "$(AREA)" || { echo "AREA is a folder of tests/, such as metrics" >&2; exit 2; }
	$(PYTEST) tests/$(AREA)

# Run the long studies and the exports at full size, which `make test` skips.
slow: $(INSTALLED)
	$(PYTEST) -m slow

lint: style types imports

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "geovision needs Python 3.11 or newer, and the PATH contains none;" \
		"install one, or run: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"geovision needs Python 3.11 or newer; %s is %d.%d" % ((sys.executable,) + tuple(sys.version_info[:2])))'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing geovision with its extras into $(VENV): some minutes, once" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[all,dev]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(MAKE) --no-print-directory mend
	@$(BIN)/python -c 'from geovision.web import bundle_runtime; bundle_runtime()'
	@touch $@

# A local folder of wheels may contain a CPU build of torch, which is incompatible with the standard
# torchvision. The builds of the package index are compatible with each other.
.PHONY: mend
mend:
	@echo "torch and torchvision are incompatible; installing both from the package index" >&2
	@PIP_CONFIG_FILE=/dev/null env -u PIP_FIND_LINKS $(BIN)/python -m pip install -qq \
		--disable-pip-version-check --upgrade --force-reinstall torch torchvision
	@$(BIN)/python -c 'import torchvision' || { $(BIN)/geovision doctor; exit 1; }

clean:
	rm -rf $(VENV) build dist demo docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find geovision tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
