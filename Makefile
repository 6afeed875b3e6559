# Two commands: `make serve` runs the service, `make test` the tests. Both set everything up first, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Of make test: each has a server of its own with its models, two or three GiB in all.
PROCESSES ?= 2

.PHONY: serve test test-long test-browser test-ray check audit docs demo bench soak format lock help
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

serve: $(READY) ## run the service on http://127.0.0.1:8000
	@$(BIN)/lorebase serve

test: $(READY) ## the tests: no root, no browser, minutes
	@$(BIN)/pytest -m "not long and not browser and not ray" --numprocesses=$(PROCESSES)

test-long: $(READY) ## tests that take longer
	@$(BIN)/pytest -m long || [ $$? -eq 5 ]

test-browser: $(READY) ## tests of the page in a real browser (Debian's package chromium, or CHROMIUM=path)
	@$(BIN)/python -c 'import axe_playwright_python' 2>/dev/null || \
	  $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,browser]'
	@$(BIN)/pytest -m browser tests/browser

test-ray: $(READY) ## tests of the model server on Ray Serve (installs the extra; minutes, 4 GiB)
	@$(BIN)/python -c 'import ray' 2>/dev/null || \
	  $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,ray]'
	@$(BIN)/pytest -m ray

check: $(READY) ## style, types, import arrows, docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pip check --disable-pip-version-check
	@$(BIN)/mkdocs build --strict

audit: $(READY) ## ask PyPI's advisories about the pinned versions (needs the network)
	@$(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	@build/audit/bin/pip-audit --no-deps --disable-pip --requirement constraints.txt

docs: $(READY) ## the documentation as a site, on http://127.0.0.1:8001
	@$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

demo: $(READY) ## two tenants, three documents, two adapters, in a minute
	@$(BIN)/lorebase demo

bench: $(READY) ## every measurement in its quick form, or one: make bench NAME=ask ARGS=--quick
	@$(BIN)/python -m benchmarks$(if $(NAME),.$(NAME)) $(ARGS)

soak: $(READY) ## faults and attacks, long: make soak, or one row: make soak NAME=isolation
	@$(BIN)/python -m reliability $(NAME) $(ARGS)

format: $(READY) ## put the code in form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY) ## write what is installed into constraints.txt
	@$(BIN)/pip freeze --exclude-editable | grep -v '^lorebase' | sed 's/+cpu$$//' > constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Lorebase needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up .venv (once; a minute or two) ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
