# Two commands for a fresh Debian 12 machine, as root: make demo, make test.
SHELL := /bin/bash
export PATH := /usr/local/lib/rehost-go-1.26.8/bin:$(PATH)
export CGO_ENABLED := 0
GO ?= go
LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
LDFLAGS := -ldflags '-s -w'

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

packages: ## install what is needed (Debian packages, Go)
	@scripts/install-packages

build: packages ## build every binary into bin/
	@echo "building the programs (minutes the first time, seconds later)" >&2
	@mkdir -p bin && $(GO) build -trimpath $(LDFLAGS) -o bin/ ./cmd/...
	@# without the commit in it, so that the appliance's image is made anew only when the program changes
	@$(GO) build -trimpath -buildvcs=false $(LDFLAGS) -o bin/ ./cmd/rehost-convert

demo: build ## migrate a real Debian server on this machine, end to end
	@$(GO) build -trimpath -o build/demo/demo ./test/demo && build/demo/demo

test: build ## run all tests (root; under 25 minutes on 2 cores)
	@scripts/test

bench: build ## run the benchmarks (root; an hour; BENCH="-rounds 1 lag-20" chooses)
	@scripts/install-packages virt-v2v
	@mkdir -p build/bench && $(GO) build -trimpath -o build/bench/bench ./test/bench && build/bench/bench $(BENCH)

fleet: build ## 100, 300 and 1,000 simulated servers on one controller: status, memory, CPU (root; 25 minutes)
	@$(MAKE) --no-print-directory bench BENCH="-rounds 1 fleet-100 fleet-300 fleet-1000"

stamp: build ## compare 200 points of each tracker tier with the frozen source, byte by byte
	REHOST_POINTS=200 $(GO) test -timeout 60m -count=1 -v -run TestEveryPoint ./test/stamp

chaos: build ## 100 kills, each fault of broker and volumes twice, both at once; no point may differ
	REHOST_KILLS=100 REHOST_FAULTS=28 REHOST_STORMS=30 $(GO) test -timeout 60m -count=1 -v ./test/chaos

crash: build ## a test and cutovers of three servers and of a wave, the controller killed at each boundary of each step; with its bus, and of two the one that leads, too; a wave of real servers; bus and agents killed in each step
	REHOST_CRASH=1 $(GO) test -timeout 40m -count=1 -v ./test/crash

mutants: build ## break each rule of the engine on purpose; the tests must notice
	$(GO) run ./test/mutants

kernels: build ## run the tracker's tests under the kernels of Debian 11, 12 and 13, emulated
	@$(GO) run ./test/kernels

guest: build ## replicate an emulated Debian 12 server, its agent under systemd, through a kill and a reboot
	REHOST_GUEST=1 $(GO) test -timeout 40m -count=1 -v ./test/guest

boot-matrix: build ## convert many kinds of servers and boot each, next to its unconverted self (MATRIX="btrfs|UEFI" chooses)
	REHOST_MATRIX="$(or $(MATRIX),.)" $(GO) test -timeout 40m -count=1 -v ./test/matrix

cloudinit: build ## launch a Debian server with cloud-init in the local cloud, log in over SSH
	REHOST_CLOUDINIT=1 $(GO) test -timeout 30m -count=1 -v -run TestCloudInit ./localcloud

storage: build ## convert roots on LVM, RAID1 and LUKS, also broken ones, in virtual machines
	REHOST_STORAGE=1 $(GO) test -timeout 30m -count=1 -v ./convert/offline

check: packages ## format, vet, generated files unchanged, lint
	@scripts/check

generate: packages ## compile the BPF programs and write the generated files
	$(GO) generate ./...

lint-fix: ## format the code
	$(GO) run $(LINT) fmt

rehearsal: build ## rehearse and cut over a real server, with boot checks, checks and actions inside of its guests
	REHOST_REHEARSAL=1 $(GO) test -timeout 30m -count=1 -v -run TestAWaveOfARealGuestIsRehearsed ./test/scenario

appliance: build ## build the conversion appliance's disk image
	@$(GO) run ./appliance/cmd/build-appliance

clean: ## remove what was built here (the image cache stays)
	rm -rf bin build

.PHONY: help packages build demo test bench fleet stamp chaos crash mutants kernels guest boot-matrix cloudinit storage rehearsal check generate lint-fix appliance clean
.DEFAULT_GOAL := help
