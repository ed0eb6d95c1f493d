# What CI runs is `make lint build test`, in that order; see .ci/run.

GOLANGCI_VERSION := 2.15.0
# of one package; the slowest needs some 400 seconds of processor time, and has others beside it
TEST_TIMEOUT     := 30m

.PHONY: all build test lint fmt check-deploy bench-console bench-login bench-login-postgres bench-login-peers screenshots bench-gateway bench-stages bench-ledger bench-move bench-move-postgres bench-move-large soak clean help bench-directory bench-directory-large

all: lint build test ## everything that CI does

build: ## bin/mpr
	CGO_ENABLED=0 go build -trimpath -o bin/mpr ./cmd/mpr

test: ## install what the tests need where it is missing, then run them all with the race detector
	TEST_TIMEOUT=$(TEST_TIMEOUT) scripts/test.sh

lint: ## formatting, go vet and golangci-lint
	GOLANGCI_VERSION=$(GOLANGCI_VERSION) scripts/lint.sh

fmt: ## format all Go files
	gofmt -s -w .

bench-stages: ## what each stage of a call costs a gateway, ten times over, as benchstat compares it (three minutes)
	@go test -vet=off -run '^$$' -bench . -count 10 -benchtime 300ms -cpu 1 ./gateway/... ./rules ./token ./directory ./limit ./observe ./ledger

bench-ledger: ## what the ledger costs a gateway, measured (two minutes)
	mkdir -p bin && go build -o bin/bench-ledger ./bench/ledger && bin/bench-ledger

check-deploy: ## check image, Compose, Kubernetes and systemd files with the tools that read them
	scripts/check-deploy.sh

# flags, such as BENCH="--moves 10 --gateways 2"; bin/bench-move --help lists them
BENCH ?=

bench-move: build ## how long calls wait when a company moves, how fast rows are copied (ten minutes)
	go build -o bin/bench-move ./bench/move && bin/bench-move $(BENCH)

bench-move-postgres: build ## the same on a PostgreSQL of its own
	go build -o bin/bench-move ./bench/move && scripts/with-postgres.sh bin/bench-move $(BENCH)

bench-move-large: build ## a company of ten million rows moves, and its mover is killed (half an hour, 10 GB of disk)
	go build -o bin/bench-move ./bench/move && bin/bench-move --measure large --writes 20 $(BENCH)

bench-directory: build ## the directory of a million companies: load, replicas, starts, changes, lookups (ten minutes)
	go build -o bin/bench-directory ./bench/directory && bin/bench-directory $(BENCH)

bench-directory-large: build ## the same of ten million (half an hour, 4 GB of disk, 10 GB of memory)
	go build -o bin/bench-directory ./bench/directory && bin/bench-directory --companies 10000000 --rounds 2 $(BENCH)

bench-gateway: build ## what a call costs the gateway, beside nginx and HAProxy (ten minutes; installs them and wrk)
	scripts/install.sh haproxy:haproxy nginx:nginx-light wrk:wrk
	go build -o bin/bench-gateway ./bench/gateway && bin/bench-gateway $(BENCH)

bench-login: build ## tokens a second, and what they cost (two minutes)
	go build -o bin/bench-login ./bench/login && bin/bench-login $(BENCH)

bench-login-postgres: build ## the same on a PostgreSQL of its own
	go build -o bin/bench-login ./bench/login && scripts/with-postgres.sh bin/bench-login $(BENCH)

bench-login-peers: build ## the same beside ory/hydra, which is built first (ten minutes)
	scripts/build-hydra.sh bin/hydra
	go build -o bin/bench-login ./bench/login && scripts/with-postgres.sh bin/bench-login --hydra bin/hydra $(BENCH)

bench-console: build ## how fast the pages are with a million companies and ten thousand apps (fifteen minutes, 2 GB of disk)
	go build -o bin/bench-console ./bench/console && bin/bench-console $(BENCH)

screenshots: build ## take the pictures of the README anew, in docs/screenshots (five minutes)
	MPR_SCREENSHOTS=$(CURDIR)/docs/screenshots MPR_TEST_BINARY=$(CURDIR)/bin/mpr go test -tags screenshots -count=1 -timeout 15m -run '^TestScreenshots$$' ./test/acceptance

MOVES ?= 300
SEED  ?= 0

soak: ## move companies to and fro under load while faults strike; MOVES=300, SEED=0 draws one
	go test -race -count=1 -v -timeout 0 -run '^TestSoak$$' ./test/faults -args -soak.moves $(MOVES) -soak.seed $(SEED)

clean: ## remove what was built; the data of `mpr dev` stays
	rm -rf bin dist coverage.out test/acceptance/jssdk/node_modules test/acceptance/axe/node_modules

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
