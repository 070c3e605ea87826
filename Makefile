# SPDX-License-Identifier: Apache-2.0
# `make` alone lists the targets. `make demo` and `make test` do all their own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO ?= go
BIN := $(CURDIR)/bin
BINARIES := caas-lab virtual-kubelet interlink-api interlink-sidecar osnode-controller \
	kube-mt-authn kube-mt-authz kube-mt-admission kube-mt-proxy kube-mt-setup kubectl-openstack
LINT := $(GO) tool -modfile=go.tools.mod golangci-lint
# FOCUS picks one group of e2e tests or benchmarks; empty means all of them.
FOCUS ?=
# SCENARIOS picks some of the offloading benchmarks, PPROF is a directory to keep profiles of them in.
SCENARIOS ?=
PPROF ?=
LAB ?= demo

export CGO_ENABLED ?= 0

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9_-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install Debian's packages that the lab needs (root)
	@hack/install-packages.sh

.PHONY: deps-cloud
deps-cloud: ## Install Debian's packages for the lab's OpenStack and virtual machines, too (root)
	@hack/install-packages.sh openstack vms

.PHONY: build
build: ## Build the programs into bin/
	@mkdir -p $(BIN)
	@echo "building $(BINARIES)"
	@$(GO) build -o $(BIN)/ $(BINARIES:%=./cmd/%)

.PHONY: lab-up
lab-up: deps build ## Start the lab: two real clusters on this machine
	@bin/caas-lab up --name $(LAB)

.PHONY: lab-down
lab-down: ## Stop the lab and remove everything it made
	@$(BIN)/caas-lab down --name $(LAB)

.PHONY: demo
demo: deps build ## The main job: a remote cluster's pods run on CaaS nodes
	@bin/caas-lab demo --name $(LAB)

.PHONY: images
images: deps build ## Build the container images that the lab serves
	@$(BIN)/caas-lab images

.PHONY: test
test: deps-cloud test-race e2e ## Everything: unit and integration under the race detector, every e2e group (root)

.PHONY: test-unit
test-unit: ## Unit tests without the race detector: seconds, no root
	$(GO) test -shuffle=on ./...

.PHONY: test-race
test-race: ## Unit tests, and those on a real control plane, under the race detector
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -tags=integration -timeout=30m ./...

.PHONY: e2e
e2e: deps-cloud build ## Black-box tests on the lab; FOCUS=lab, offload, fidelity, soak, dask, jupyter, osnode, drills, tenancy, login or vm picks a group (root)
	CAAS_BIN=$(BIN) $(GO) test -tags=e2e -count=1 -p=1 -timeout=60m -v -run '$(if $(FOCUS),(?i)^Test$(FOCUS),.)' ./test/e2e/...

.PHONY: bench
bench: deps-cloud build ## Measure; FOCUS=offload, soak, osnode or tenancy picks a group, PPROF=dir keeps profiles; writes bench/out/latest.json (root)
	@case "$(FOCUS)" in ''|offload|soak|osnode|tenancy) ;; *) echo "FOCUS=$(FOCUS): there are offload, soak, osnode and tenancy" >&2; exit 2 ;; esac
	@case "$(FOCUS)" in ''|offload) $(BIN)/caas-lab bench --out bench/out/latest.json --scenarios "$(SCENARIOS)" --pprof "$(PPROF)" ;; esac
	@case "$(FOCUS)" in ''|soak) $(GO) run -tags bench ./test/bench/soak --bin $(BIN) --out bench/out/latest.json ;; esac
	@case "$(FOCUS)" in ''|osnode) $(GO) run -tags bench ./test/bench/osnode --bin $(BIN) --out bench/out/latest.json ;; esac
	@case "$(FOCUS)" in ''|tenancy) $(GO) run -tags bench ./test/bench/tenancy --bin $(BIN) --out bench/out/latest.json ;; esac

.PHONY: lint
lint: ## Run the linters
	$(LINT) run ./...
	$(LINT) run --build-tags=integration,e2e,bench,vm ./...

.PHONY: fmt
fmt: ## Format the code
	$(LINT) fmt ./...

.PHONY: generate
generate: ## Rebuild generated files
	$(GO) generate ./...

.PHONY: verify
verify: ## What CI checks before the tests: modules tidy, generated files fresh, lint
	$(GO) mod tidy -diff
	$(GO) vet ./...
	@$(MAKE) --no-print-directory generate
	@git diff --exit-code --stat -- '*zz_generated*' deploy/osnode/crds
	@$(MAKE) --no-print-directory lint
