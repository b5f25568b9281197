# What a newcomer types: `make run`, then `make test`. Needs Python >= 3.11 with venv, make and a
# package index. Nothing is installed outside $(VENV), nothing is built outside $(BUILD).

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build
PYTEST_ARGS ?= -n auto --dist worksteal
CASES ?= 1000000
SEED ?= 1

export BOOTBUILD_KERNELS ?= $(abspath $(BUILD))/kernels
export PIP_DISABLE_PIP_VERSION_CHECK = 1

bin := $(VENV)/bin
stamps := $(VENV)/stamps
# Everything that ends up in the wheel: a change reinstalls it, and nothing else does.
sources := pyproject.toml README.md LICENSE $(wildcard LICENSES/*) \
           $(shell find builder plugins \( -name __pycache__ -o -name examples \) -prune -o -type f -print) \
           $(shell find plugins/examples/bootbuild-unikernel -name __pycache__ -prune -o -type f -print)

# --no-build-isolation: hatchling is in the venv, pinned, so that a reinstall asks no index.
install = $(bin)/pip install --quiet --constraint constraints.txt --no-build-isolation

.DELETE_ON_ERROR:
.PHONY: run test fuzz lint types kernels xl bench manifest constraints clean

run: $(stamps)/run ## install, then build and boot the two hello kernels
	$(bin)/bootbuild recipes/hello.toml recipes/hello32.toml

# From tests/, so that neither builder/ nor plugins/ can be imported: what is tested is what was installed.
test: $(stamps)/test ## the suite, against the installed wheel
	cd tests && env -u PYTHONPATH BOOTBUILD_INSTALLED=1 $(abspath $(bin))/pytest $(PYTEST_ARGS)

fuzz: $(stamps)/test ## mutated kernels through all that reads them, CASES of SEED: minutes to hours
	$(bin)/python tests/fuzz/drive.py --seed $(SEED) --cases $(CASES) --progress 10000

lint: $(stamps)/dev ## ruff, the import contracts, and whether the stubs' blobs are those of their sources
	$(bin)/ruff check .
	PYTHONPATH=builder $(bin)/python -m bootbuild.stubs check $(dir $(shell find builder plugins -name stubs.toml)) > /dev/null
	PYTHONPATH=builder:plugins:$(subst $() ,:,$(wildcard plugins/examples/*)) $(bin)/lint-imports

types: $(stamps)/test $(stamps)/dev ## mypy --strict
	$(bin)/mypy

kernels: $(stamps)/symbols ## fetch and unpack Debian's kernels and Xen (not installed)
	$(bin)/python scripts/kernels.py $(BOOTBUILD_KERNELS)

xl: $(stamps)/symbols ## fetch what a Xen toolstack domain is made of (not installed)
	$(bin)/python scripts/xl.py $(BOOTBUILD_KERNELS)

bench: $(stamps)/test ## time a build and a boot
	$(bin)/python benchmarks/run.py

manifest: $(stamps)/test ## regenerate the lists of files that ship
	$(bin)/python scripts/manifest.py tests/packaging

constraints: ## regenerate the exact pins from what pip resolves today
	PYTHON=$(PYTHON) bash scripts/constraints.sh > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean: ## remove what make made, the fetched kernels included
	rm -rf $(VENV) $(BUILD) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(stamps)/venv: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bootbuild needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(bin)/pip install --quiet --constraint constraints.txt hatchling
	@mkdir -p $(@D) && touch $@

$(stamps)/run: $(stamps)/venv $(sources)
	$(install) .
	@touch $@

$(stamps)/test: $(stamps)/venv $(sources)
	$(install) '.[test]'
	@touch $@ $(stamps)/run

# The tools alone: `make lint` works on a tree that does not install.
$(stamps)/dev $(stamps)/symbols: $(stamps)/venv pyproject.toml
	$(bin)/python scripts/extra.py $(@F) | xargs $(bin)/pip install --quiet --constraint constraints.txt
	@touch $@
