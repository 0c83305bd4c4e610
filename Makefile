# Everything here needs Python 3.11 or newer and make. The environment is made in .venv automatically.
# If the system lacks something, make says so before it downloads anything.
PYTHON ?= python3
BIN := .venv/bin
MODEL_REGISTRY ?= models
export MODEL_REGISTRY

.DEFAULT_GOAL := help
.PHONY: help setup train serve test test-slow coverage lint deploy-check rules format docker-build docker-test bench stress year accuracy tables scale integration lock clean

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: .venv/ready  ## make the environment

# LightGBM's wheel for Linux uses the system's OpenMP; Debian has Python's ensurepip in a separate package.
define CHECK
import sys
if sys.version_info < (3, 11):
    sys.exit("Tabserve needs Python 3.11 or newer. Name one: make PYTHON=python3.13 ...")
import ctypes, importlib.util, os
missing = {}
if not os.path.exists(".venv/bin/pip") and not importlib.util.find_spec("ensurepip"):
    missing["python%d.%d-venv" % sys.version_info[:2]] = "Python's ensurepip"
if sys.platform == "linux":
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        missing["libgomp1"] = "LightGBM's libgomp.so.1"
if missing:
    lacking = " and ".join(missing.values())
    sys.exit("This system lacks %s. On Debian and Ubuntu: apt-get install %s" % (lacking, " ".join(missing)))
endef
export CHECK

.venv/ready: requirements-dev.txt setup.py
	@$(PYTHON) -c "$$CHECK"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -c 'import lightgbm' || { echo 'LightGBM cannot be loaded. On macOS it needs OpenMP: brew install libomp'; exit 1; }
	touch $@

train: setup  ## train the models of one use case: make train USE_CASE=bikes
	$(BIN)/tabserve train $(USE_CASE)

serve: setup  ## serve on http://localhost:8080, for this machine only; trains missing models first
	@export HOST=127.0.0.1 AUTH_REQUIRED="$${AUTH_REQUIRED-false}"; \
	$(BIN)/python -m tabserve.api.start && missing=$$($(BIN)/tabserve models missing) && for name in $$missing; do \
		$(MAKE) --no-print-directory train USE_CASE=$$name || exit 1; \
	done && \
	echo "Starting on http://localhost:$${PORT:-8080}, for this machine only, with AUTH_REQUIRED=$$AUTH_REQUIRED; Ctrl-C stops it." && \
	exec $(BIN)/tabserve serve

# Modules are compiled once, not by each test process, whatever the environment says.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses auto --dist loadfile
test: setup  ## run the tests, except the slow ones
	$(PYTEST) $(OPTIONS)

test-slow: setup  ## run the slow tests: a browser, whole trainings, many requests, many examples
	$(PYTEST) -m slow $(OPTIONS)

coverage: setup  ## run both with more examples, and check how much of the code they cover
	$(BIN)/coverage erase
	$(MAKE) --no-print-directory test test-slow OPTIONS="--hypothesis-profile=deep --cov --cov-append --cov-report= --cov-fail-under=0"
	$(BIN)/coverage report

lint: setup deploy-check  ## check style, types and deployment files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf .venv/types && mkdir -p .venv/types/tabserve && ln -s "$$PWD"/src/*.* "$$PWD"/src/*/ "$$PWD/api" .venv/types/tabserve
	$(BIN)/mypy

deploy-check: setup  ## check the deployment files: images, compose, Travis, CloudFormation
	$(BIN)/hadolint Dockerfile Dockerfile.test deploy/compose/Dockerfile deploy/compose/database/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.travis .travis.yml
	$(BIN)/cfn-lint deploy/cloudformation/tabserve.yaml

RULES := deploy/kubernetes/components/monitoring/rules.yaml

rules:  ## make the alerts of deploy/monitoring/rules.yaml a resource for Kubernetes
	@{ echo '# Written by `make rules` from deploy/monitoring/rules.yaml: change that one.'; \
	   echo 'apiVersion: monitoring.coreos.com/v1'; echo 'kind: PrometheusRule'; echo 'metadata:'; \
	   echo '  name: tabserve'; echo 'spec:'; \
	   sed -n '/^groups:/,$$ s/^\(.\)/  \1/p' deploy/monitoring/rules.yaml; } > $(RULES)

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

IMAGE ?= tabserve
HOLD_OUT ?= false
docker-build:  ## build the service's image, and record in it what it is built from
	docker build --tag $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"$$/\1/p' src/__init__.py)" \
		--build-arg COMMIT="$$(git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null || echo unknown)" \
		--build-arg HOLD_OUT="$(HOLD_OUT)" \
		.

docker-test:  ## build the images and test them: `make test` inside, then the container and compose.yaml
	@if docker version >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory setup && $(BIN)/pytest --verbose --log-cli-level INFO -m container tests/test_container.py; \
	else \
		echo "skipped: no container engine"; \
	fi

bench: setup  ## measure speed and memory; writes benchmarks/RESULTS.md (needs wrk)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.run

stress: setup  ## measure what slow, broken and too many clients do to a service; writes benchmarks/STRESS.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.stress

year: setup  ## log a year of a million decisions, and let tabserve monitor look for its one shift
	$(BIN)/python -m benchmarks.year $(OPTIONS)

accuracy: setup  ## measure how good tuning is on the credit data; writes benchmarks/ACCURACY.md
	$(BIN)/python -m benchmarks.accuracy

tables: setup  ## take real tables from draft to answers; writes benchmarks/TABLES.md (an hour)
	$(BIN)/python -m benchmarks.tables $(TABLES)

ROWS = 10000,100000,1000000
ROUNDS = 1
scale: setup  ## measure how time and memory grow with rows; writes benchmarks/SCALE.md (an hour; minutes with ROWS=1000,10000)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.scale --rows $(ROWS) --rounds $(ROUNDS)

integration: setup  ## check a running service against the latest model's hold-out
	$(BIN)/python -m tests.integration

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header --no-strip-extras
lock: setup  ## update the pinned requirements, all to the same versions
	$(LOCK) --upgrade requirements-dev.in --output-file requirements-dev.txt
	for part in "" -train -s3 -cluster -trees -tracing; do \
		$(LOCK) --upgrade --constraint requirements-dev.txt requirements$$part.in --output-file requirements$$part.txt || exit 1; \
	done
	$(LOCK) --upgrade benchmarks/requirements.in --output-file benchmarks/requirements.txt

clean:  ## remove the environment and the files of tools; models stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* build dist model-cache *.egg-info
