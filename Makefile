# Everything a person or CI runs. `make help` lists it.
VENV   ?= .venv
CHART  ?= .venv-chart
TOOLS  ?= .tools
PYTHON ?= python3
RUN    := $(VENV)/bin/python
DATA   ?=
OUT    ?= var/bench

.PHONY: help install tools demo serve check test test-long chart chart-test bench quality clean

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

check: install  ## lint, format, types, import contracts, what is generated
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m helm.generate --check

tools: install $(TOOLS)/unpacked  ## unpack Prometheus, brokers and a browser for the tests (Debian and its kin)

$(TOOLS)/unpacked: tests/tools.py
	PLORA_TOOLS=$(TOOLS) $(RUN) -m tests.tools
	mkdir -p $(TOOLS) && touch $@

test: install tools  ## every test but the long ones, the chart's too
	PLORA_TOOLS=$(TOOLS) $(RUN) -m pytest -m "not long" -n auto --dist loadfile
	$(MAKE) chart-test

test-long: install tools  ## bounded soak and fault runs
	PLORA_TOOLS=$(TOOLS) $(RUN) -m pytest -m long

chart: install  ## write again what of the chart is generated: schema, tables, dashboards, rules
	$(RUN) -m helm.generate

chart-test: $(CHART)/installed  ## the chart in the real Helm engine, in an environment of its own
	$(CHART)/bin/python -m pytest tests/chart

$(CHART)/installed: tests/chart/requirements.txt
	$(PYTHON) -m venv $(CHART)
	$(CHART)/bin/python -m pip install --quiet --disable-pip-version-check --ignore-requires-python -r $<
	touch $@

bench: install  ## what fitting costs, beside PEFT: OUT=folder; ARGS=--quick for five minutes
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	$(RUN) -m benchmarks.fit --out $(OUT) $(ARGS)

quality: install  ## what adapters are worth, beside their controls: OUT=folder; ARGS="--data FILE ..." or --quick
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	$(RUN) -m benchmarks.quality --out $(OUT) $(ARGS)

clean:  ## remove .venv and what demo and serve left
	rm -rf $(VENV) $(CHART) $(TOOLS) var var-keys var-export
