# Everything a person or CI runs. `make help` lists it.
VENV   ?= .venv
PYTHON ?= python3
RUN    := $(VENV)/bin/python
DATA   ?=
OUT    ?= var/bench

.PHONY: help install demo serve check test test-long bench quality clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/installed  ## make .venv with everything pinned in constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "plora needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' constraints.txt)"
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)" \
		--group service --group dev -e .
	touch $@

demo: install  ## the whole main job in minutes; DATA=file.jsonl.gz takes real rows
	$(RUN) -m daemon demo $(if $(DATA),--data $(DATA))

serve: install  ## run the daemon here (SQLite, key file, local Ray) until Ctrl-C
	$(RUN) -m daemon serve

check: install  ## lint, format, types, import contracts
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

test: install  ## every test but the long ones
	$(RUN) -m pytest -m "not long"

test-long: install  ## bounded soak and fault runs
	$(RUN) -m pytest -m long

bench: install  ## what fitting costs, beside PEFT: OUT=folder; ARGS=--quick for five minutes
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	$(RUN) -m benchmarks.fit --out $(OUT) $(ARGS)

quality: install  ## what adapters are worth, beside their controls: OUT=folder; ARGS="--data FILE ..." or --quick
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	$(RUN) -m benchmarks.quality --out $(OUT) $(ARGS)

clean:  ## remove .venv and what demo and serve left
	rm -rf $(VENV) var var-keys var-export
