# SPDX-License-Identifier: Apache-2.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# libvirt_dlopen: libvirt is loaded when a node host wants it, so the binaries
# build and start on machines that have none.
GO            ?= go
GO_BUILD_TAGS ?= libvirt_dlopen
VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
PREFIX        ?= /usr/local
DESTDIR       ?=
# Of the Debian package: xz, zstd, gzip or none.
DEB_COMPRESSION ?= xz

# Tools, by exact version: the same answer on every machine and every day.
STATICCHECK := $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT     := $(GO) run mvdan.cc/gofumpt@v0.12.0
PROTOC_GO   := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GRPC := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

# For the scripts below test/.
export GO GO_BUILD_TAGS PKG BENCH KEELSON_BENCH_REQUESTS
export GOTESTSUM := $(GO) run gotest.tools/gotestsum@v1.13.0
export CGO_ENABLED := 1

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Try it

.PHONY: demo
demo: ## A real Docker Swarm in LXC nodes on this machine (Debian or Ubuntu, root; elsewhere simulated hosts)
	@test/demo/up

.PHONY: demo-down
demo-down: ## End the demo and leave nothing of it behind
	@test/demo/down

##@ Build

.PHONY: build
build: ## Build the commands into bin/
	$(GO) build -tags '$(GO_BUILD_TAGS)' -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/...
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/ ./cmd/keelson-authz # for nodes, whatever their libc

doc := $(DESTDIR)$(PREFIX)/share/doc/keelson
.PHONY: install
install: build ## Install below DESTDIR and PREFIX (/usr/local); configuration that is there in DESTDIR/etc stays
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/etc/keelson $(DESTDIR)$(PREFIX)/share/keelson/templates $(doc)/examples
	install -m 0755 bin/keelson bin/keelsond $(DESTDIR)$(PREFIX)/bin/
	install -m 0644 etc/keelson/*.sample $(DESTDIR)/etc/keelson/
	test -e $(DESTDIR)/etc/keelson/keelson.conf || install -m 0640 etc/keelson/keelson.conf $(DESTDIR)/etc/keelson/
	cp -R templates/host templates/node $(DESTDIR)$(PREFIX)/share/keelson/templates/
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in etc/systemd/*.service; do sed 's|/usr/bin/|$(PREFIX)/bin/|' "$$unit" >$(DESTDIR)$(PREFIX)/lib/systemd/system/"$${unit##*/}"; done
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d etc/sysusers.d/*
	install -D -m 0644 -t $(DESTDIR)/etc/logrotate.d etc/logrotate.d/*
	install -m 0644 etc/systemd/log-to-file.conf etc/haproxy/* etc/mariadb/* $(doc)/examples/
	install -m 0755 etc/rabbitmq/* $(doc)/examples/
	install -m 0644 README.md docs/*.md $(doc)/
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/man/*.1
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/*.8
	share=$(DESTDIR)$(PREFIX)/share; install -d "$$share"/bash-completion/completions "$$share"/zsh/site-functions "$$share"/fish/vendor_completions.d
	share=$(DESTDIR)$(PREFIX)/share; for command in keelson keelsond; do \
		bin/$$command completion bash >"$$share"/bash-completion/completions/$$command; \
		bin/$$command completion zsh >"$$share"/zsh/site-functions/_$$command; \
		bin/$$command completion fish >"$$share"/fish/vendor_completions.d/$$command.fish; \
	done

.PHONY: deb
deb: build ## A Debian package in build/ (DEB_COMPRESSION=none is quick)
	@etc/debian/build $(VERSION) $(DEB_COMPRESSION)

.PHONY: generate genconfig genpolicy gencli
generate: genconfig genpolicy gencli ## Write the files that are made from the code anew
genconfig:
	test/lint/generated.sh --write etc/keelson/keelson.conf.sample
genpolicy:
	test/lint/generated.sh --write etc/keelson/policy.yaml.sample
gencli:
	test/lint/generated.sh --write docs/cli-reference.md

.PHONY: genproto
genproto: ## Write the Go code of the driver protocol anew (Debian's protobuf-compiler)
	tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	GOBIN=$$tools $(GO) install $(PROTOC_GO); GOBIN=$$tools $(GO) install $(PROTOC_GRPC); \
	protoc --plugin=$$tools/protoc-gen-go --plugin=$$tools/protoc-gen-go-grpc -I drivers/plugin/proto \
		--go_out=drivers/plugin/proto --go_opt=paths=source_relative \
		--go-grpc_out=drivers/plugin/proto --go-grpc_opt=paths=source_relative driver.proto

.PHONY: fmt
fmt: ## Format the Go code
	$(GOFUMPT) -w .

.PHONY: clean
clean: ## Delete what make built
	rm -rf bin build

##@ Test

.PHONY: test
test: build ## Everything: install and start the real parts, unit, functional and end-to-end tests, clean up (root)
	@test/run all

.PHONY: unit
unit: ## The tests that need no other service (PKG=./internal/store/... for some packages)
	@test/run unit

.PHONY: functional
functional: ## All packages against real MariaDB, RabbitMQ, Keystone, Ironic and libvirt (root)
	@test/run functional

.PHONY: e2e
e2e: build ## The whole way through, from a client's request to a working cluster (root)
	@test/run e2e

.PHONY: life
life: ## What hosts go through: cut off, libvirtd killed, booted, dead and back; some minutes (root)
	@test/run life

.PHONY: check
check: ## Formatting, vet, staticcheck, generated files, the project's own lints
	@test/run check

.PHONY: docs
docs: ## Links between the documents lead somewhere
	@test/lint/links.sh

.PHONY: deb-check
deb-check: deb ## The Debian package before lintian, and its units started by a systemd of their own (root)
	@deb=$$(ls -t build/keelson_*.deb | head -n 1); lintian --allow-root --fail-on error,warning "$$deb" && test/packaging/root "$$deb" systemd

.PHONY: fmt-check
fmt-check:
	@unformatted=$$($(GOFUMPT) -l .); if [[ -n $$unformatted ]]; then echo "not formatted, run make fmt:" $$unformatted >&2; exit 1; fi

.PHONY: vet
vet:
	@$(GO) vet -tags '$(GO_BUILD_TAGS)' ./...

.PHONY: staticcheck
staticcheck:
	@$(STATICCHECK) -tags '$(GO_BUILD_TAGS)' ./...

.PHONY: lab-up
lab-up: ## Start the real parts and leave them running for go test (root)
	@file=$$(test/lab/up) && echo "now: . $$file"

.PHONY: lab-down
lab-down: ## End what lab-up started
	@test/lab/down

.PHONY: fuzz
fuzz: ## Made-up input for everything that decodes: ten million executions (FUZZ_EXECUTIONS)
	@test/fuzz

.PHONY: chaos
chaos: ## 2,000 operations (KEELSON_CHAOS_OPERATIONS) under continuous faults, restarts of database and broker among them (root)
	@test/run chaos

.PHONY: plugin-kills
plugin-kills: ## A driver's process killed in the middle of each of 100 creates (KEELSON_PLUGIN_KILLS)
	KEELSON_PLUGIN_KILLS=$${KEELSON_PLUGIN_KILLS:-100} $(GO) test -tags '$(GO_BUILD_TAGS)' -count 1 -timeout 30m -v -run NoCreateIsLostWhenItsDriverIsKilled ./conductor

##@ Measure

.PHONY: bench
bench: build ## The API beside a bare net/http service, up to 100,000 clusters (BENCH=-quick: a first look; root)
	@test/run bench-api

.PHONY: bench-go
bench-go: ## The packages' benchmarks
	$(GO) test -tags '$(GO_BUILD_TAGS)' -run '^$$' -bench . -benchmem $(or $(PKG),./...)

.PHONY: bench-plugin
bench-plugin: ## What a step takes longer when its driver is a process of its own (added-ms)
	$(GO) test -tags '$(GO_BUILD_TAGS)' -run '^$$' -bench '^BenchmarkStep$$' -benchtime 3s ./drivers/plugin

.PHONY: bench-tenant
bench-tenant: ## What tenants feel: keelson list beside curl; first paint and weight of each page of the portal (chromium)
	$(GO) test -tags '$(GO_BUILD_TAGS)' -run '^$$' -bench '^BenchmarkList$$' -benchtime 50x ./internal/cli
	$(GO) test -tags '$(GO_BUILD_TAGS)' -count=1 -run '^TestThePortal(InABrowser|OfABusyCloud)$$' -v ./cmd/keelsond | grep -E 'first paint|^(---|ok|FAIL)'

.PHONY: bench-create
bench-create: build ## Time a cluster create side by side with the same steps by hand (root)
	@test/bench/create

.PHONY: bench-crowd
bench-crowd: build ## Time a thousand cluster creates at once on simulated hosts (root)
	@test/run bench-crowd
