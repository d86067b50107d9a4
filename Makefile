# Thyme. `make help` lists what there is; `make demo` and `make test` are the two commands to know.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# clang compiles RocksDB a quarter faster than gcc; one compiler everywhere, so that nothing is compiled twice.
export CC := clang
export CXX := clang++
# RocksDB as four sources (tools/cxx); the name stays the same, so that cargo by hand compiles nothing anew.
export PATH := $(CURDIR)/tools/cxx:$(PATH)
export CARGO_TERM_PROGRESS_WHEN := never
# Hundreds of commands and servers start in the tests: they find what Python has compiled.
export PYTHONDONTWRITEBYTECODE :=
# KAFKA=off leaves out the tests that need a Kafka broker.
KAFKA ?= on
# The crates that link Python have Python tests; `cargo test` leaves them out.
RUST_CRATES := --workspace --exclude thyme-python --exclude thyme-extract

ifeq ($(KAFKA),off)
SKIP_RUST := -- --skip on_kafka
SKIP_PYTHON := --without-kafka
endif

RUST_TESTS := --config tools/tests.toml --release $(RUST_CRATES)
# The test programs are compiled with clippy (tools/clippy), where the toolchain carries it.
CLIPPY := $(if $(shell cargo clippy --version 2>/dev/null),RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/tools/clippy/rustc)
RUN_RUST = $(CLIPPY) $(PYTHON) tools/rust_tests.py $(RUST_TESTS) $(SKIP_RUST)
# The tests of a file stay in one process: many share a server. Long files begin first (integration/conftest.py). What is skipped, such
# as full disks where the system refuses mount namespaces, is told at the end (-rs).
RUN_PYTHON = $(CLIPPY) $(PYTHON) -m pytest -q -rs -n 4 --dist loadfile --no-loadscope-reorder python/tests integration benches/peers $(SKIP_PYTHON)

.PHONY: help deps test-deps install serve demo kafka postgres test test-rust test-python test-wheel lint check bench bench-peers soak crash clean

# What takes long says so before anything else.
$(if $(filter soak,$(MAKECMDGOALS)),$(info == make soak takes about 25 minutes on 2 cores))
$(if $(filter crash,$(MAKECMDGOALS)),$(info == make crash takes up to 100 minutes on 2 cores with SEEDS=20000, and with fewer seeds as much less))

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

deps: ## system packages and the virtual environment, where missing
	@tools/bootstrap.sh $(VENV)

# What starts the servers of tests and benches; after `deps`, for apt takes one at a time.
test-deps: deps
	@tools/bootstrap.sh $(VENV) $(if $(filter off,$(KAFKA)),,kafka) postgres

install: deps ## the thyme command in .venv/bin (release build)
	@tools/install.sh $(VENV)

serve: install ## a server on loopback, data in ./.thyme
	@$(VENV)/bin/thyme serve

demo: install ## the main job on a year of real flights (336,776, of which 328,521 left)
	@tools/install.sh $(VENV) demo
	@$(PYTHON) python/examples/flights/demo.py

kafka: deps ## a Kafka broker on a free port, in the foreground
	@tools/bootstrap.sh $(VENV) kafka
	@tools/kafka.sh run $(KAFKA_PORT)

postgres: deps ## a PostgreSQL server on a free port, in the foreground
	@tools/bootstrap.sh $(VENV) postgres
	@tools/postgres.sh run $(POSTGRES_PORT)

test: lint ## everything (KAFKA=off: without the tests that need a Kafka broker)
	@$(MAKE) --no-print-directory -j 2 test-rust test-python
	@$(if $(filter off,$(KAFKA)),echo "left out with KAFKA=off: every test that starts a Kafka broker (Rust: below on_kafka, Python: with the fixture start_broker)")

lint: deps ## formatting, clippy, proto lint
	@tools/lint.sh $(VENV)
	@$(if $(CLIPPY),,echo "note: this toolchain has no clippy, lints are not checked")
	$(CLIPPY) cargo build --tests --bench '*' $(RUST_TESTS)

test-rust: test-deps ## Rust tests
	@tools/s3.sh $(VENV)
	@$(if $(filter off,$(KAFKA)),,tools/kafka.sh fetch)
	$(RUN_RUST)

test-python: test-wheel ## Python tests (SDK, CLI, server end to end, examples)
	$(RUN_PYTHON)

# The wheel, with clippy on the crates that are in no other test program.
test-wheel: test-deps
	@$(CLIPPY) tools/install.sh $(VENV)
	@tools/s3.sh $(VENV)
	@tools/install.sh $(VENV) test
	@tools/install.sh $(VENV) demo

check: deps ## quick: compiles, formatted, unit tests of the domain
	cargo fmt --all --check
	cargo check --release $(RUST_CRATES)
	cargo test --release -p thyme-core --quiet

bench: test-deps install ## the measures of benches/README.md, one JSON line each
	@tools/install.sh $(VENV) demo
	cargo run --release -p thyme-bench --bin thyme-bench -- --python $(PYTHON)

# The first time it fetches the peers (1.8 GB); --quick, --only and others by hand, see benches/README.md.
bench-peers: install ## Thyme beside what one would pick instead, same data, one JSON line each (half an hour or more)
	@tools/install.sh $(VENV) demo
	@tools/peers.sh .peers
	$(PYTHON) benches/peers/run.py --peers .peers

soak: test-wheel ## the long forms of the property, kill and parity tests (25 minutes on 2 cores)
	@$(if $(filter off,$(KAFKA)),,tools/kafka.sh fetch)
	THYME_SOAK=1 $(RUN_RUST)
	THYME_SOAK=1 $(RUN_PYTHON)

crash: test-deps install ## simulation, crash points, mutants, servers and a broker killed under load, at length (up to 100 minutes on 2 cores; SEEDS=20000 scales it)
	@tools/install.sh $(VENV) test
	@tools/kafka.sh fetch
	@$(PYTHON) integration/crash.py

clean: ## build output and the virtual environment
	rm -rf target $(VENV)
