# One command set. Every target makes what it needs first: an own .venv from the hash-pinned locks.
# Nothing but make, sh and Python >= 3.11 (with its venv module) has to be there.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PYTEST := $(PY) -m pytest
STAMP := $(VENV)/.bursar-setup
# What the benchmarks compare with: an environment of its own, so that nothing of it is a dependency.
PEERS := $(VENV)/peers
BREAKERS := $(VENV)/peers-breaker
# What looks at the locks.
SUPPLY := $(VENV)/supply-chain
# The locks of what is shipped: one for each image.
SHIPPED = $(foreach name,$(SERVICES) cli nats-server,requirements/$(name).txt)
SCHEDULERS := $(VENV)/peers-scheduler
# What the installed project depends on: when one of these changes, `setup` runs again.
INPUTS := requirements/dev.txt pyproject.toml

# The interpreter that makes .venv: PYTHON=... chooses one, otherwise the first that is new enough.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11

# Settings of the targets below.
TRACE ?=
JSON ?=
OUT ?=
QUICK ?=
UPGRADE ?=
ARGS ?=
ADVISORIES ?= pypi
SEEDS ?= 100000
TEST_SEEDS ?= 2000
COVERAGE_SEEDS ?= 96
SOAK_SEEDS ?= 20000

# Seconds that a ring of tests may take; one that takes longer has failed.
BUDGET_unit := 180
BUDGET_property := 240
BUDGET_simulation := 300
BUDGET_integration := 720
BUDGET_browser := 90
BUDGET_security := 120

# $(call ring,NAME,PYTEST ARGUMENTS,VARIABLES): one ring, with its own time, within its budget.
define ring
	@printf '\n=== %s ring (at most %s s)\n' '$(1)' '$(BUDGET_$(1))'; \
	start=$$(date +%s); code=0; \
	timeout --foreground --signal=INT --kill-after=20 $(BUDGET_$(1)) env $(3) $(PYTEST) $(2) $(ARGS) || code=$$?; \
	took=$$(($$(date +%s) - start)); \
	if [ $$took -ge $(BUDGET_$(1)) ]; then echo "=== $(1) ring: stopped after its $(BUDGET_$(1)) s"; exit 1; fi; \
	if [ $$code -ne 0 ]; then echo "=== $(1) ring: FAILED after $$took s of $(BUDGET_$(1)) s"; exit $$code; fi; \
	echo "=== $(1) ring: passed in $$took s of $(BUDGET_$(1)) s"
endef

.PHONY: help setup demo up test test-unit test-property test-simulation test-integration test-security test-containers compose-up compose-down \
	test-browser lint format types coverage bench-kernel bench-limiter bench-breaker bench-gpu bench-gpu-real bench-scheduler bench-monitor bench-deploy soak history-scheduler simulate-nightly docs docs-check lock audit-deps sbom clean

##@ Use
help: ## show this page
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile
	@printf '\nThe first run makes %s by itself (about a minute). PYTHON=/path/to/python chooses the interpreter.\n' '$(VENV)'

setup: $(STAMP) ## make .venv from the hash-pinned locks, with Bursar in it (other targets do this by themselves)
	@echo "$(VENV) is ready: $(BIN)/bursar --help"

demo: $(STAMP) ## two fleets replay a trace, one unmanaged, one under Bursar  [TRACE=FILE.csv] [JSON=FILE] [OUT=DIR] [ARGS=...]
	$(BIN)/bursar demo $(if $(TRACE),--trace "$(TRACE)") $(if $(JSON),--json "$(JSON)") $(if $(OUT),--out "$(OUT)") $(ARGS)

up: $(STAMP) ## run the control plane here: embedded NATS server and all services  [ARGS="--replicas 2"]
	$(BIN)/bursar up $(ARGS)

compose-up: ## build the images, run everything in containers here (deploy/compose.yaml), wait until all services answer
	sh deploy/compose.sh build
	sh deploy/compose.sh up -d
	sh deploy/compose.sh run --rm check

compose-down: ## stop those containers; their state stays in its volumes
	sh deploy/compose.sh down

##@ Check
test: test-unit test-property test-simulation test-integration ## all four rings of tests, each within its time budget

test-unit: $(STAMP) ## plain tests of one module at a time
	$(call ring,unit,-n 2 -m "not (property or fuzz or simulation or integration or browser or containers or slow)")

test-property: $(STAMP) ## hypothesis properties and state machines, and the fuzz tests
	$(call ring,property,-n 2 -m "(property or fuzz) and not (integration or slow)")

test-simulation: $(STAMP) ## the deterministic simulator  [TEST_SEEDS=2000]
	$(call ring,simulation,-n 2 -m "simulation and not slow" --override-ini timeout=290,BURSAR_SEEDS=$(TEST_SEEDS))

test-integration: $(STAMP) ## against the real nats-server: kills, pauses, partitions, permissions
	$(call ring,integration,-n 2 --dist loadfile -m "integration and not slow" --reruns 1)

test-browser: $(STAMP) chromium ## the monitor's page in a real headless Chromium
	$(call ring,browser,tests/browser -m "browser and not slow" --reruns 1)

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  echo "--- installing Chromium with apt-get"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	} || { echo "There is no Chromium here, and it cannot be installed: apt-get install chromium" >&2; exit 1; }

test-security: $(STAMP) ## who may say, hear and use what: every cell against the real server, attacks, credentials, certificates
	$(call ring,security,-n 2 --dist loadfile -m "not slow" --reruns 1 -p tests.security.counting $(SECURING))

test-containers: $(STAMP) ## every image as a container; stops, kills, partitions (installs an engine where there is none)
	TESTCONTAINERS_RYUK_DISABLED=true sh tests/containers/engine.sh $(PYTEST) -m containers tests/containers $(ARGS)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## let ruff repair and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## mypy, strict, over code, tests and benchmarks
	$(PY) -m mypy

# The tests that are about who may do what.
SECURING := tests/security tests/bus/test_permissions.py tests/bus/test_inbox_border.py tests/bus/test_identity.py \
	tests/bus/test_signing.py tests/bus/test_tls.py tests/bus/test_tls_files.py \
	$(wildcard tests/integration/test_*_permissions.py)

# The tests that are about the cores, without the long ones: the gate is to be quick.
COVERING := tests/kernel tests/breaker tests/gpu_manager tests/limiter tests/monitor tests/scheduler tests/client/test_batching.py \
	tests/security/test_rights.py tests/simulation/test_simulation.py::test_promises_hold_whatever_fails

coverage: $(STAMP) ## branch coverage of the pure cores, with a gate at 95 % (a minute or so)
	@$(PY) -m coverage erase
	@pure="$$($(PY) -m tests.architecture.rules)"; set -e; \
	BURSAR_SEEDS=$(COVERAGE_SEEDS) $(PY) -m coverage run --include="$$pure" -m pytest -n 2 \
	  -m "not (integration or property or fuzz or browser or slow)" --ignore-glob='*/test_seeded_bugs.py' $(COVERING) $(ARGS); \
	$(PY) -m coverage combine --quiet; \
	$(PY) -m coverage report --include="$$pure"

##@ Measure
bench-kernel: $(STAMP) ## durable decisions against the raw echo, cold start, take-over -> bench/out/kernel.json  [QUICK=1]
	@mkdir -p bench/out
	$(PY) -m bench.kernel $(if $(QUICK),--quick) --json bench/out/kernel.json $(ARGS)

bench-limiter: $(STAMP) $(if $(QUICK),$(PEERS)/.quick,$(PEERS)/.full) ## the limiter, local and durable, judged, against other limiters -> bench/out/limiter.json  [QUICK=1]
	@mkdir -p bench/out
	$(PY) -m bench.limiter $(if $(QUICK),--quick) --peers $(PEERS)/bin/python --json bench/out/limiter.json $(ARGS)

$(PEERS)/.quick: requirements/bench-peers.txt $(STAMP)
	$(call peers,$<,$(PEERS))

$(PEERS)/.full: requirements/bench-peers-full.txt $(STAMP)
	$(call peers,$<,$(PEERS))

define peers
	@echo "--- installing the pinned packages of $(1) into $(2)"
	@$(PY) -m venv --without-pip $(2)
	@$(PY) -m pip --python $(2)/bin/python install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r $(1)
	@touch $@
endef

bench-breaker: $(STAMP) $(if $(QUICK),,$(BREAKERS)/.full) ## how soon a fleet knows, cost of a decision, other breakers beside it -> bench/out/breaker.json  [QUICK=1]
	@mkdir -p bench/out
	$(PY) -m bench.breaker $(if $(QUICK),--quick) --peers $(BREAKERS)/bin/python --json bench/out/breaker.json $(ARGS)

$(BREAKERS)/.full: requirements/bench-peers-breaker.txt $(STAMP)
	$(call peers,$<,$(BREAKERS))

bench-gpu: $(STAMP) ## admission rules, durable grants, placement over 1,000 cards, packing of a day -> bench/out/gpu.json  [QUICK=1]
	@mkdir -p bench/out
	$(PY) -m bench.gpu $(if $(QUICK),--quick) --json bench/out/gpu.json $(ARGS)

bench-gpu-real: $(STAMP) ## what a real NVIDIA card does, with a trace of it; ends with status 3 without one -> bench/out/gpu_real.json
	@mkdir -p bench/out
	$(PY) -m bench.gpu_real --json bench/out/gpu_real.json --trace bench/out/gpu_real_trace.jsonl $(ARGS)

bench-scheduler: $(STAMP) $(if $(QUICK),,$(SCHEDULERS)/.full) ## decisions, durable lifecycles and assignments, recovery, failover, fairness on a trace -> bench/out/scheduler.json  [QUICK=1 TRACE=FILE]
	@mkdir -p bench/out
	$(PY) -m bench.scheduler $(if $(QUICK),--quick) $(if $(TRACE),--trace $(TRACE)) \
	  --peers $(SCHEDULERS)/bin/python --json bench/out/scheduler.json $(ARGS)

$(SCHEDULERS)/.full: requirements/bench-peers-scheduler.txt $(STAMP)
	$(call peers,$<,$(SCHEDULERS))

bench-monitor: $(STAMP) ## samples saved, cost of a probe, incidents told by their cause, the page with 1,000 hosts -> bench/out/monitor.json  [QUICK=1]
	@mkdir -p bench/out
	-@$(MAKE) --no-print-directory chromium
	$(PY) -m bench.monitor $(if $(QUICK),--quick) --json bench/out/monitor.json $(ARGS)

bench-deploy: $(STAMP) ## containers, cluster, flood, permissions, doctor: what a deployment promises -> bench/out/deploy.json  [QUICK=1]
	@mkdir -p bench/out
	TESTCONTAINERS_RYUK_DISABLED=true sh tests/containers/engine.sh \
	  $(PY) -m bench.deploy $(if $(QUICK),--quick) --json bench/out/deploy.json $(ARGS)

soak: $(STAMP) ## longer histories, more seeds, more hostile inputs (an hour or so)  [SOAK_SEEDS=20000]
	BURSAR_SEEDS=$(SOAK_SEEDS) BURSAR_SOAK=1 HYPOTHESIS_PROFILE=soak \
	  $(PYTEST) -n 2 -m "simulation or property or fuzz or slow" --override-ini timeout=7200 $(ARGS)

history-scheduler: $(STAMP) ## a thousand workers under kills, pauses and cuts for five minutes, judged by the journal  [SECONDS=300]
	$(PY) -m tests.integration.scheduler_chaos --seconds $(or $(SECONDS),300) $(ARGS)

simulate-nightly: $(STAMP) ## the simulator over many more seeds  [SEEDS=100000]
	BURSAR_SEEDS=$(SEEDS) $(PYTEST) -n 2 -m simulation --override-ini timeout=28800 $(ARGS)

##@ House
docs: $(STAMP) ## write the published contracts again: docs/asyncapi.yaml and docs/schemas/
	$(BIN)/bursar contracts docs

docs-check: $(STAMP) ## fail when the published contracts are not what the code says
	$(BIN)/bursar contracts docs --check

SERVICES = $(patsubst services/%/pyproject.toml,%,$(wildcard services/*/pyproject.toml))
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header $(if $(UPGRADE),--upgrade)

lock: $(STAMP) ## write the locks in requirements/ again  [UPGRADE=1 for newer versions]
	$(COMPILE) pyproject.toml --group dev -o requirements/dev.txt
	$(COMPILE) requirements/bench-peers.in -o requirements/bench-peers.txt
	$(COMPILE) -c requirements/bench-peers.txt requirements/bench-peers-full.in -o requirements/bench-peers-full.txt
	$(COMPILE) requirements/bench-peers-breaker.in -o requirements/bench-peers-breaker.txt
	$(COMPILE) requirements/bench-peers-scheduler.in -o requirements/bench-peers-scheduler.txt
	$(COMPILE) -c requirements/dev.txt --no-emit-package bursar --extra server \
	  shared/pyproject.toml services/*/pyproject.toml -o requirements/runtime.txt
	$(COMPILE) requirements/supply-chain.in -o requirements/supply-chain.txt
	$(COMPILE) -c requirements/dev.txt requirements/build.in -o requirements/build.txt
	$(COMPILE) -c requirements/dev.txt requirements/nats-server.in -o requirements/nats-server.txt
	$(COMPILE) -c requirements/dev.txt --no-emit-package bursar shared/pyproject.toml -o requirements/shared.txt
	$(COMPILE) -c requirements/dev.txt --no-emit-package bursar --extra cli shared/pyproject.toml -o requirements/cli.txt
	@for service in $(SERVICES); do \
	  echo "$(COMPILE) --all-extras services/$$service/pyproject.toml -o requirements/$$service.txt"; \
	  $(COMPILE) -c requirements/dev.txt --no-emit-package bursar \
	    --all-extras services/$$service/pyproject.toml -o requirements/$$service.txt || exit 1; \
	done

audit-deps: $(SUPPLY)/.full ## ask for known vulnerabilities of everything that the locks pin; fails when it cannot be known  [ADVISORIES=osv]
	$(SUPPLY)/bin/pip-audit --strict --disable-pip --require-hashes --vulnerability-service $(ADVISORIES) \
	  $(foreach lock,$(SHIPPED),--requirement $(lock)) $(ARGS)

sbom: $(SUPPLY)/.full ## a bill of materials (CycloneDX) for each image -> dist/sbom/*.cdx.json
	@mkdir -p dist/sbom
	@set -e; for name in $(patsubst requirements/%.txt,%,$(SHIPPED)); do \
	  case $$name in \
	    nats-server) set -- ;; \
	    cli) set -- --pyproject shared/pyproject.toml ;; \
	    *) set -- --pyproject services/$$name/pyproject.toml ;; \
	  esac; \
	  $(SUPPLY)/bin/python -W ignore -m cyclonedx_py requirements requirements/$$name.txt "$$@" --mc-type application \
	    --output-reproducible --output-format JSON --output-file dist/sbom/$$name.cdx.json; \
	  echo "dist/sbom/$$name.cdx.json"; \
	done

$(SUPPLY)/.full: requirements/supply-chain.txt $(STAMP)
	$(call peers,$<,$(SUPPLY))

clean: ## remove what was built and measured here; .venv, .bursar and the sources stay
	rm -rf build dist bench/out demo-out htmlcov .coverage .coverage.* \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find shared services tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): $(INPUTS)
	@requirements/setup.sh $(VENV) $(STAMP) $(PYTHON)
