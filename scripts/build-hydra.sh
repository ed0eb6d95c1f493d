#!/usr/bin/env bash
# Builds ory/hydra, beside which the login service is measured, into the file that it is told.
set -euo pipefail

out=$(realpath -m "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
go mod init peer 2>/dev/null
# Only its own go.mod may replace what it needs, and only where it is the main module: said again here.
go mod edit -replace github.com/gobuffalo/pop/v6=github.com/ory/pop/v6@v6.2.1-0.20241121111754-e5dfc0f3344b
go get -tool github.com/ory/hydra/v2@v2.3.0
CGO_ENABLED=0 go build -o "$out" github.com/ory/hydra/v2
