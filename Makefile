# Everything here needs Go and the module proxy only, but for js, which needs Node, npm and Chromium.

GO ?= go
BIN ?= bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS = -X main.version=$(VERSION)
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
CYCLONEDX = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZTIME ?=
GENERATED ?= 500
CHAOS ?= 5m
SIMULATE ?= 60s
SOAK ?= 5m
LOGINS ?= 10000000
SEED ?= 0
AGAINST ?=
FROM ?= 9153e71
UPGRADE ?= 70s
ROUNDS ?=

.PHONY: help run build release reproducible packages test race processes histories bounded js flat simulate monitoring quick lint fmt vet modules staticcheck vuln fuzz bench bench-full bench-10m chaos soak upgrade check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build and run the daemon with its own NATS server and a demo page, data in ./data
	$(BIN)/presenced --data data --demo

build: ## build both commands into bin/
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

# For which systems make release builds.
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
DIST ?= dist
release reproducible: export VERSION := $(VERSION)
release reproducible: export PLATFORMS := $(PLATFORMS)
release reproducible: export DIST := $(DIST)
release reproducible: export GO := $(GO)
release reproducible: export CYCLONEDX := $(CYCLONEDX)

release: ## archives, checksums and bills of materials for PLATFORMS in DIST; the same commit gives the same bytes
	@deploy/release.sh

# CI leaves it out: to build anew for each platform takes a minute and a half of processor time.
reproducible: ## the release of this tree, and of a copy elsewhere as somebody else would build it, must be the same
	@deploy/reproducible.sh

test: race processes histories bounded monitoring packages js ## all tests

# Most of a test's time is waiting, for a TTL or a server to start: so many run at
# once.
PARALLEL ?= 4

# Here tests run without the race detector: their code runs in processes of its own, or
# they do more the faster they run.
PROCESSES = ./integration/processes

race: ## with the race detector, all but those of processes
	$(GO) test -race -parallel $(PARALLEL) $$($(GO) list ./... | grep -v '/integration/processes$$')

processes: ## those of processes: clusters, chaos, floods, full disks
	$(GO) test -parallel $(PARALLEL) $(PROCESSES)

# The same ones each time, so that a failure is of the change at hand; make simulate
# draws others.
histories: ## half a minute of simulate, from a seed that stays
	$(GO) test ./pkg/service/internal/simulation -run '^TestSimulate$$' -v -count 1 -timeout 0 -simulate 30s

bounded: ## a million times the same to one user, and users who come and go, for about a minute
	$(GO) test -run '^(TestBounded|TestFlat)$$' ./pkg/internal/state

monitoring: ## what is for Prometheus, by its own packages, which have a module of their own
	cd integration/monitoring && $(GO) vet . && $(GO) test .

# .ci/run says JS=required, so that CI never leaves it out.
JS ?= where it can

js: ## the JavaScript client: types, lint, its size, the demo page, tests in Node and Chromium, about 3 minutes
	@missing=$$(pkg/client-js/scripts/missing.sh); \
	if [ -z "$$missing" ]; then cd pkg/client-js && ./scripts/install.sh && npm run -s check; \
	elif [ "$(JS)" = required ]; then echo "the JavaScript client cannot be tested: there is no $$missing"; exit 1; \
	else echo "LEFT OUT: the tests of the JavaScript client. There is no $$missing"; fi

# A module of its own, because of what it reads the files with. The go command does not see that
# files outside of it have changed, so -count 1.
packages: ## deploy/: the files for systemd, Compose and Kubernetes, read as these read them
	cd deploy/test && $(GO) vet ./... && $(GO) test -count 1 ./...

flat: ## users log in and are lost LOGINS times, and the memory stays what it is, about ten minutes
	$(GO) test ./pkg/internal/state -run '^TestFlat$$' -v -count 1 -timeout 0 -logins $(LOGINS)

simulate: ## histories of several instances under a seeded scheduler for SIMULATE; SEED=n plays that one first
	$(GO) test ./pkg/service/internal/simulation -run '^TestSimulate$$' -v -count 1 -timeout 0 -simulate $(SIMULATE) -seed $(SEED)

quick: ## all tests without the race detector
	$(GO) test ./...

lint: fmt vet staticcheck modules ## what needs no test to run

fmt: ## all is as gofmt writes it
	@out=$$(gofmt -l cmd deploy pkg integration); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...

modules: ## dependencies are those of go.mod and go.sum, unchanged, and no more
	$(GO) mod verify
	$(GO) mod tidy -diff
	cd deploy/test && $(GO) mod verify && $(GO) mod tidy -diff
	cd integration/monitoring && $(GO) mod verify && $(GO) mod tidy -diff

staticcheck: ## staticcheck
	$(GO) run $(STATICCHECK) ./...

vuln: ## known vulnerabilities of the dependencies, where the database can be reached
	@if curl -fsS -m 10 -o /dev/null https://vuln.go.dev/index/db.json 2>/dev/null; then $(GO) run $(GOVULNCHECK) ./...; \
	else echo "the vulnerability database cannot be reached: govulncheck left out"; fi

# Each target has so many executions, about three seconds' worth. A time instead of a count makes
# Go 1.26 fail now and then with "context deadline exceeded" (golang/go#75804).
#
# Configuration files are generated, and not fuzzed by coverage: to build nats-server
# for that takes minutes.
fuzz: ## each fuzz target for a while, or for FUZZTIME, and GENERATED configuration files
	$(GO) test -run '^$$' -fuzz FuzzToken -fuzztime $(or $(FUZZTIME),75000x) ./pkg/protocol
	$(GO) test -run '^$$' -fuzz FuzzParseUser -fuzztime $(or $(FUZZTIME),115000x) ./pkg/protocol
	$(GO) test -run '^$$' -fuzz FuzzRequests -fuzztime $(or $(FUZZTIME),80000x) ./pkg/protocol
	$(GO) test -run '^$$' -fuzz FuzzJSONScan -fuzztime $(or $(FUZZTIME),100000x) ./pkg/protocol
	$(GO) test -run '^$$' -fuzz FuzzDecode -fuzztime $(or $(FUZZTIME),165000x) ./pkg/internal/entry
	$(GO) test -run '^$$' -fuzz FuzzBlocks -fuzztime $(or $(FUZZTIME),15000x) ./pkg/internal/table
	$(GO) test -run '^$$' -fuzz FuzzArena -fuzztime $(or $(FUZZTIME),36000x) ./pkg/internal/table
	$(GO) test -run '^$$' -fuzz FuzzIndex -fuzztime $(or $(FUZZTIME),1300x) ./pkg/internal/table
	$(GO) test -run '^$$' -fuzz FuzzRestore -fuzztime $(or $(FUZZTIME),50000x) ./pkg/internal/state
	$(GO) test -run '^$$' -fuzz FuzzConnections -fuzztime $(or $(FUZZTIME),150000x) ./pkg/service/internal/sysevent
	$(GO) test -run '^$$' -fuzz FuzzDecode -fuzztime $(or $(FUZZTIME),100000x) ./pkg/service/internal/contacts/value
	$(GO) test -run '^(TestFile_Garbage|TestG13_AcceptedFiles)$$' -count 1 ./pkg/broker -rapid.checks $(GENERATED)

bench: ## speed and size against raw NATS, about 3 minutes; AGAINST=commit: against that commit, ROUNDS=n
	$(GO) run ./integration/bench $(if $(AGAINST),-against $(AGAINST)) $(if $(ROUNDS),-rounds $(ROUNDS))

bench-full: ## the same with longer rounds, a million users and curves, about 25 minutes; PLOT=dir: draws the curves
	$(GO) run ./integration/bench -full $(if $(PLOT),-plot $(PLOT))

bench-10m: ## ten million users on one presenced: memory, a snapshot, verify, a restart; 8 GB of memory, 5 GB of disk, about 10 minutes
	$(GO) run ./integration/bench -only large -users 10000000

chaos: ## three NATS servers and three presenced under faults for CHAOS; SEED=n draws those of an earlier run
	$(GO) test $(PROCESSES) -run '^(TestChaos|TestLinearizable|TestLinearizable_NoMajority)$$' -v -count 1 -parallel 1 -timeout 0 -chaos $(CHAOS) -seed $(SEED)

soak: ## noise, random requests, half-open connections and slow readers for SOAK against one presenced; SEED=n as above
	$(GO) test $(PROCESSES) -run '^TestSoak$$' -v -count 1 -timeout 0 -soak $(SOAK) -seed $(SEED)

# With a pause of more than a minute instances of both versions take snapshots, and start from
# each other's.
upgrade: ## from the commit FROM to this tree: rolling under load, UPGRADE after each step, and on its data
	$(GO) test $(PROCESSES) -run '^(TestG07_RollingUpgrade|TestG01_EarlierData.*)$$' -v -count 1 -timeout 0 -from $(FROM) -upgrade $(UPGRADE)

check: lint test fuzz vuln ## what CI runs

clean: ## remove what was built
	rm -rf $(BIN) $(DIST)
