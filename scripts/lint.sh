#!/usr/bin/env bash
# Checks formatting, runs go vet and golangci-lint. golangci-lint is built into bin/ with
# this machine's Go where the wanted version isn't there yet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${GOLANGCI_VERSION:?run this with make lint}

unformatted=$(gofmt -s -l $(git ls-files --cached --others --exclude-standard '*.go'))
if [[ -n $unformatted ]]; then
	printf 'These files are not formatted; run make fmt:\n%s\n' "$unformatted" >&2
	exit 1
fi

# Built like bin/mpr: all packages that we need are compiled once for both.
export CGO_ENABLED=0 GOFLAGS="$(go env GOFLAGS) -trimpath"
go vet ./...

linter=bin/golangci-lint
if [[ $("$linter" version --short 2>/dev/null) != "$version" ]]; then
	echo "Building golangci-lint $version into bin/ (minutes, once)"
	GOBIN=$PWD/bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version"
fi
"$linter" run ./...
