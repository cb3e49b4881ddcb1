# make demo   the environment, then the interactive shell on the starter (through a pipe: a text a line in, JSON lines out)
# make test   the environment with test tools, then the whole suite, a file of tests on each core (at most four)
# make slurm  the tests on a real Slurm, which scripts/slurm_here.sh starts on this machine
# make quick  only the tests that need no model
# make lint   formatting, lint and types
# make starter DATA=folder   train the starter model again, from the data described in models/starter/README.md (default: $BLINK_DATA)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= $(BLINK_DATA)
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test slurm quick slow lint starter clean

demo: $(VENV)/.ready
	@$(BIN)/python -m blink.apps.cli shell

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m "not slow and not slurm and not browser" -n auto --maxprocesses 4 --dist loadfile
	@if command -v sbatch >/dev/null; then echo "the tests on a real Slurm were left out: make slurm"; \
	else echo "no Slurm here: its tests were left out (scripts/slurm_here.sh starts one, then: make slurm)"; fi

slurm: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slurm -rs --durations=10 -n 3 --dist loadfile

quick: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m quick

slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready-dev
	$(BIN)/ruff format --check blink tests benchmarks scripts examples
	$(BIN)/ruff check blink tests benchmarks scripts examples
	$(BIN)/mypy

# Installers talk on standard error: what a pipe reads from `make -s demo` is links and nothing else.
$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "BLINK needs Python 3.10 or newer; set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >&2
	@echo "installing what BLINK needs into $(VENV) (once) ..." >&2
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt >&2
	@$(BIN)/python -m pip install --quiet --no-deps --editable . >&2
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	@echo "installing the test tools ..." >&2
	@$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt >&2
	@touch $@

starter: $(VENV)/.ready
	scripts/train_starter.sh $(DATA)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
