# SPDX-License-Identifier: Apache-2.0
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUILD       := $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)"
STRIPPED    := $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    := v2.15.0
FUZZTIME    ?= 30s
SOAK        ?= 2000
CROSS       := arm arm64 amd64 riscv64
PURE        := . ./journal/... ./fleet/... ./sensors/...
# These start themselves again, which an emulator without binfmt cannot.
RESTARTS    := ^TestKill

.PHONY: help build demo test chaos soak lint bench gobench cross fuzz qemu clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

build: ## bin/streembitd, bin/streembit-updater and bin/streembit, static, for this machine
	CGO_ENABLED=0 $(BUILD) -o bin/ ./cmd/streembitd ./cmd/streembit-updater ./cmd/streembit

demo: build ## a fleet on loopback: devices and hubs die, then a server pulls every reading (about a minute)
	bin/streembit demo

test: ## all tests under the race detector; the trials of test/chaos without it: they check thousands of signatures
	$(GO) test -race -vet=off -timeout 15m $$($(GO) list ./... | grep -v /test/chaos)
	$(GO) test -vet=off -timeout 15m ./test/chaos
	$(GO) test -vet=off -tags tpm ./fleet/tpm

chaos: ## as root: kill, cut, fill, spoil and replace members, with controls, in the long form (an hour); a table for bench/RESULTS.md
	CHAOS=long $(GO) test -v -count=1 -timeout 4h ./test/chaos

soak: ## the agent's faults and power cuts of updates again and again, then SOAK rounds of kills (default 2000, some 40 min)
	$(GO) test -race -count=20 -run '^TestSoak$$' ./agent
	POWERCUTS=20 $(GO) test -v -count=1 -timeout 1h -run '^TestUpdate_PowerCut' ./ota/slots | grep -v '^ *\(=== \|--- PASS\)'
	CHAOS=long CHAOS_ROUNDS=$(SOAK) $(GO) test -v -count=1 -timeout 24h -run '^TestKill$$' ./test/chaos

lint: ## go vet, staticcheck, gofmt, go mod tidy; golangci-lint where it is installed
	$(GO) vet ./...
	$(GO) vet -tags tpm ./fleet/tpm ./cmd/streembitd
	cd bench/peers && $(GO) vet ./...
	$(GO) run $(STATICCHECK) -checks inherit,ST1000 ./...
	cd bench/peers && $(GO) run $(STATICCHECK) -checks inherit,ST1000 ./...
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); [ -z "$$bad" ] || { echo "run gofmt -w on:"; echo "$$bad"; exit 1; }
	$(GO) mod tidy -diff
	cd bench/peers && $(GO) mod tidy -diff
	@if command -v golangci-lint >/dev/null; then golangci-lint run ./...; \
	else echo "golangci-lint is not installed, its linters were not run: go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)"; fi

bench: ## beside mosquitto and NATS JetStream, with the aims of the design (5 min; BENCH=short: under 3)
	cd bench/peers && $(GO) test -run '^$$' -bench '^BenchmarkPeers$$' -benchtime 1x -timeout 30m .

gobench: ## all benchmarks of the packages, one run each; compare two outputs with benchstat
	$(GO) test -run '^$$' -bench . -benchmem ./...

cross: ## streembitd, stripped, for each kind of board, with sizes (MB = 10^6 bytes)
	@for arch in $(CROSS); do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch GOARM=6 $(STRIPPED) -o bin/streembitd-linux-$$arch ./cmd/streembitd; \
	done
	@for arch in $(CROSS); do \
		stat -c '%n %s' bin/streembitd-linux-$$arch; \
	done | awk 'BEGIN {printf "%-28s %10s %7s\n", "program", "bytes", "MB"} {printf "%-28s %10d %7.1f\n", $$1, $$2, $$2/1e6}'

fuzz: ## every fuzz test for FUZZTIME (default 30s) each
	@GO="$(GO)" bash .ci/fuzz $(FUZZTIME)

qemu: ## tests of the packages without network, as 32-bit ARMv6 and as ARM64 programs under qemu-user
	@for arch in arm:arm arm64:aarch64; do \
		emulator=$$(command -v qemu-$${arch#*:} || command -v qemu-$${arch#*:}-static) || \
			{ echo "qemu-$${arch#*:} is missing: apt-get install qemu-user"; exit 1; }; \
		echo "GOARCH=$${arch%:*} under $${emulator##*/}"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$${arch%:*} GOARM=6 $(GO) test -vet=off -timeout 15m -skip "$(RESTARTS)" -exec "$$emulator" $(PURE); \
	done

clean: ## remove what build and cross made
	rm -rf bin
