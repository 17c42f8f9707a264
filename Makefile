# Every task of the project. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PARTS  := broker sdk order-service shipping-service notification-service
COMPILE := pip-compile --quiet --generate-hashes --no-header --strip-extras \
           --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --allow-unsafe

MINUTES ?= 10
SEED    ?= 1
CELLS   ?= 6
WORKERS ?= 3

.PHONY: help setup run test test-slow audit audit-cluster soak fuzz bench sbom vulnerabilities \
        lint lock protos examples secrets clean

help:             ## list the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

setup: $(VENV)/.ready   ## make .venv with everything in it, .venv/bin/broker included

$(VENV)/.ready: requirements-dev.txt $(PARTS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(PARTS:%=-e ./%)
	touch $@

run: setup        ## start the whole stack without containers, its data under ./data
	mkdir -p data
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/honcho start

test: lint        ## check style, types and import rules, then run every test: WORKERS=3 at a time
	$(BIN)/pytest -n $(WORKERS)

test-slow: setup  ## run the tests that `make test` leaves out, for they take minutes
	$(BIN)/pytest -m slow

audit: setup      ## break the whole stack at random, and count what is lost: MINUTES=10 SEED=1
	cd tests && ../$(BIN)/python -m audit --minutes $(MINUTES) --seed $(SEED)

audit-cluster: setup   ## the same with three brokers on three NATS servers: MINUTES=10 SEED=1 CELLS=6
	cd tests && ../$(BIN)/python -m audit --cluster --cells $(CELLS) --minutes $(MINUTES) --seed $(SEED)

soak: MINUTES = 30
soak: setup       ## load the broker for long, and see that nothing grows or is lost: MINUTES=30 RATE=
	cd tests && ../$(BIN)/python -m soak --minutes $(MINUTES) $(RATE:%=--rate %)

fuzz: setup       ## throw hostile input at every parser, guided by coverage: MINUTES=10
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-fuzz.txt
	cd tests && ../$(BIN)/python -m fuzz --minutes $(MINUTES)

bench: setup      ## measure the broker beside what you would write without it
	$(BIN)/python -m bench

sbom: setup       ## write what each image has of Python, as CycloneDX, into build/sbom
	$(BIN)/python ops/sbom.py

vulnerabilities: setup  ## ask whether vulnerabilities of the images' packages are known
	$(BIN)/python ops/vulnerabilities.py

lock: setup       ## compile every requirements.txt anew from its requirements.in
	for part in broker order-service shipping-service notification-service; do \
	    (cd $$part && ../$(BIN)/$(COMPILE) --upgrade -o requirements.txt requirements.in) || exit 1; done
	$(BIN)/$(COMPILE) --upgrade -o requirements-dev.txt requirements-dev.in

protos: setup     ## generate the Python code of the gRPC interface anew
	$(BIN)/python proto/generate.py

examples: setup   ## play the examples of the API's description anew
	cd tests && ../$(BIN)/python -m support.order_story

lint: setup       ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd tests && ../$(BIN)/lint-imports ../pyproject.toml --no-cache

secrets:          ## make the random keys that compose.keys.yml gives to the broker and the services
	@umask 077 && mkdir -p secrets && cd secrets && for name in admin encryption order shipping notification; do \
	    test -s $${name}_key || $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(32))' > $${name}_key || exit 1; \
	    chmod 444 $${name}_key; done  # a container reads them under another user; the folder is yours alone

clean:            ## remove what the tasks made; the data of `make run` stays
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
