# make demo    a real network, fine-tuned on real photographs, with a proof in a few minutes
# make test    all tests
# make check   formatting, lints, documentation, licences and advisories, all tests
# make bench-engine  images per second beside PyTorch (an hour; PYTHON=... of the peers' environment)
# make bench-convergence  iterations and work of every solver (WEIGHTS=... SIZE=... FOLDERS=...)
# make bench-kernels  times of single convolutions, each pass by itself
# make help    this list
#
# A Rust toolchain (rustup takes the version from rust-toolchain.toml) is all that `test` and
# `check` need; `demo` also needs python3 with pip, to fetch one file.

CARGO ?= cargo
PYTHON ?= .venv-peers/bin/python
WEIGHTS ?= ../shared/data/weights/efficientnet-lite0-57934424.pth
SIZE ?= 96
FOLDERS ?= ../shared/data/images/flowers89

.DEFAULT_GOAL := help

.PHONY: help demo bench-engine bench-convergence bench-kernels test check fmt lint doc deny clean-demo

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo:
	@dev/demo.sh

test:
	@command -v $(CARGO) >/dev/null || { echo "make: $(CARGO) is missing; install the Rust toolchain with rustup (https://rustup.rs)" >&2; exit 1; }
	$(CARGO) test --workspace --locked
	@echo "test: all tests passed"

bench-engine:
	@mkdir -p dev/bench/runs/$$(date +%F)
	dev/bench/engine.sh $(PYTHON) 7 > dev/bench/runs/$$(date +%F)/engine.jsonl
	python3 dev/bench/engine_table.py dev/bench/runs/$$(date +%F)/engine.jsonl

bench-convergence:
	@mkdir -p dev/bench/runs/$$(date +%F)
	dev/bench/convergence.sh $(WEIGHTS) $(SIZE) $(FOLDERS) > dev/bench/runs/$$(date +%F)/convergence.jsonl

bench-kernels:
	$(CARGO) bench --locked -p convextune-model --bench kernels

check: fmt lint doc deny test
	@echo "check: everything passed"

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

deny:
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
		echo "deny: skipped, cargo-deny is not installed (cargo install --locked cargo-deny)"; \
	else \
		$(CARGO) deny --locked check --hide-inclusion-graph licenses bans sources || exit 1; \
		if $(CARGO) deny --locked fetch db; then \
			$(CARGO) deny --locked check --hide-inclusion-graph --disable-fetch advisories; \
		else \
			echo "deny: advisories NOT checked, their database could not be fetched"; \
		fi; \
	fi

clean-demo:
	rm -rf .demo
