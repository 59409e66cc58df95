# The two commands of the README. Each works on a fresh clone with nothing but Python, and is
# quiet about what it reuses.
PYTHON ?= python3
BIN := .venv/bin
DEPENDENCIES := .venv/.installed

.PHONY: demo test

demo: $(DEPENDENCIES)
	@$(BIN)/python projects/emoji/demo.py

test: $(DEPENDENCIES)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# fairscale is left out: it has no wheels, and no test needs it.
$(DEPENDENCIES): setup.py requirements.txt constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (torch alone takes a minute or two)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check \
		-c constraints.txt torch torchvision
	@$(BIN)/python -m pip install -q --disable-pip-version-check \
		-c constraints.txt -e '.[dev]'
	@touch $@
