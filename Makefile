# make demo    a real network, fine-tuned on real photographs, with a proof in a few minutes
# make test    all tests
# make check   formatting, lints, documentation, licences and advisories, all tests
# make help    this list
#
# A Rust toolchain (rustup takes the version from rust-toolchain.toml) is all that `test` and
# `check` need; `demo` also needs python3 with pip, to fetch one file.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt lint doc deny clean-demo

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo:
	@dev/demo.sh

test:
	@command -v $(CARGO) >/dev/null || { echo "make: $(CARGO) is missing; install the Rust toolchain with rustup (https://rustup.rs)" >&2; exit 1; }
	$(CARGO) test --workspace --locked
	@echo "test: all tests passed"

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
