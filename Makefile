# The commands of this project. `make run` and `make test` need Rust; what else is there is used, what
# is missing is said in one line.

CARGO ?= cargo
GO ?= go
TESTBED := $(CURDIR)/tests/testbed/bin/testbed
TESTBED_KUBE := $(CURDIR)/tests/testbed/bin/testbed-kube
TESTBED_SOURCES := $(shell find tests/testbed -path tests/testbed/v120 -prune -o -path tests/testbed/kube -prune -o \( -name '*.go' -o -name 'go.*' -o -name '*.yaml' \) -print 2>/dev/null)
TESTBED_KUBE_SOURCES := $(shell find tests/testbed/kube tests/testbed/common -name '*.go' -o -name 'go.*' 2>/dev/null)
KUBERNETES := -X k8s.io/component-base/version.gitVersion=v1.35.6 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35
HAVE_GO := $(shell command -v $(GO) 2>/dev/null)
# On machines that share their cores, leave some to the others: make test JOBS=1
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help run test check conformance mutants faults fmt lint doc bench soak testbed need-cargo

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

need-cargo:
	@command -v $(CARGO) >/dev/null || { echo "cpg needs Rust (cargo), version $$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer: see https://rustup.rs" >&2; exit 2; }

run: need-cargo ## Watch cpg work: a demo relay, the real pipeline, policy files
	$(CARGO) run --locked --quiet -- demo

ifdef HAVE_GO
test: need-cargo $(TESTBED) $(TESTBED_KUBE) ## All tests; with Go also those against the real Hubble Relay and Cilium's own validation
	CPG_TESTBED=$(TESTBED) $(CARGO) test --locked
	cd tests/testbed && $(GO) vet ./... && $(GO) test ./...
else
test: need-cargo
	$(CARGO) test --locked
	@echo "skipped: the tests against the real Hubble Relay and Cilium's validation need Go, which is not here"
endif

# The real parts, linked from Go modules; built once, and again when their sources change.
$(TESTBED): $(TESTBED_SOURCES)
	cd tests/testbed && $(GO) build -mod=readonly -p $(JOBS) -ldflags "-s -w" -o bin/testbed .

# The engine against both judges, on a million verdicts and more.
CONFORMANCE_VERDICTS ?= 1000000
CONFORMANCE_SEED ?= 1
TESTBED_120 := $(CURDIR)/tests/testbed/bin/testbed-1.20

$(TESTBED_120): $(shell find tests/testbed/v120 tests/testbed/common -name '*.go' -o -name 'go.*' 2>/dev/null)
	cd tests/testbed/v120 && $(GO) build -mod=readonly -p $(JOBS) -ldflags "-s -w" -o ../bin/testbed-1.20 .

conformance: need-cargo $(TESTBED) $(TESTBED_120) ## The policy engine against Cilium's own (1.19 and 1.20), on a million verdicts
	CPG_TESTBED=$(TESTBED) CPG_TESTBED_120=$(TESTBED_120) CPG_CONFORMANCE_VERDICTS=$(CONFORMANCE_VERDICTS) \
	CPG_CONFORMANCE_SEED=$(CONFORMANCE_SEED) $(CARGO) test --locked --test it conformance -- --nocapture

# One of five mutants of the engine, about a hundred: which one, the shard says. The engine's own tests
# alone must catch at least 90 % of them.
MUTANTS := $(CURDIR)/target/tools/bin/cargo-mutants
MUTANTS_VERSION := 27.1.0
MUTANTS_SHARD ?= 0/5

$(MUTANTS):
	$(CARGO) install --locked --quiet --root target/tools cargo-mutants@$(MUTANTS_VERSION)

mutants: need-cargo $(MUTANTS) ## Break the policy engine in a hundred places, one by one: do its tests notice?
	PATH=$(dir $(MUTANTS)):$$PATH CARGO_TARGET_DIR=$(CURDIR)/target/mutants CARGO_PROFILE_DEV_DEBUG=0 \
	$(CARGO) mutants --output target --file 'src/engine/**' --sharding round-robin --shard $(MUTANTS_SHARD) \
	--cargo-arg=--lib -- engine::

FAULTS ?= 60
SEED ?= 1

faults: need-cargo $(TESTBED) $(TESTBED_KUBE) ## 60 faults in the real Hubble Relay and its nodes while known flows are dropped; prints what became of them
	CPG_TESTBED=$(TESTBED) CPG_FAULTS=$(FAULTS) CPG_SEED=$(SEED) $(CARGO) test --locked --test it faults:: -- --nocapture --test-threads 1

$(TESTBED_KUBE): $(TESTBED_KUBE_SOURCES)
	cd tests/testbed/kube && $(GO) build -mod=readonly -p $(JOBS) -ldflags "-s -w $(KUBERNETES)" -o ../bin/testbed-kube .

testbed: $(TESTBED) $(TESTBED_KUBE) ## Start the real Hubble Relay and API server by hand; prints address and kubeconfig, ends with Ctrl-C
	@dir=$$(mktemp -d) && $(TESTBED) up -kube -dir $$dir

check: need-cargo fmt lint doc test ## What CI runs

fmt:
	$(CARGO) fmt --check

lint:
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet

bench: need-cargo ## Speed and memory, side by side with their limits
	$(CARGO) bench --locked
	CARGO=$(CARGO) benches/process.sh

soak: need-cargo ## Twenty minutes at full speed, then at 1,500 flows/s: memory, CPU per million flows, share of a core
	CARGO=$(CARGO) benches/soak.sh
