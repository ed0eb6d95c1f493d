#!/usr/bin/env bash
# Installs what the tests need where it is missing, then runs all of them with the race
# detector. What can't be installed is named; the tests that need it are skipped, and
# counted in the last line. With CI=true a skip is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

have() { command -v "$1" >/dev/null 2>&1; }

# program:Debian package
wanted=(gcc:gcc curl:curl chromium:chromium node:nodejs npm:npm)

packages=()
for pair in "${wanted[@]}"; do
	have "${pair%%:*}" || packages+=("${pair##*:}")
done
if ((${#packages[@]})) && have apt-get && [[ $(id -u) == 0 ]]; then
	echo "Installing ${packages[*]}"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -q update && apt-get -q install -y --no-install-recommends "${packages[@]}"; } >&2 ||
		echo "apt-get failed; going on without" >&2
fi

missing=()
for pair in "${wanted[@]}"; do
	have "${pair%%:*}" || missing+=("${pair%%:*}")
done

# The JavaScript SDK, as npm ships it.
sdk=test/acceptance/jssdk
if have npm && [[ ! $sdk/node_modules/.package-lock.json -nt $sdk/package-lock.json ]]; then
	npm --prefix "$sdk" ci --no-audit --no-fund --loglevel=error || true
fi
[[ -d $sdk/node_modules/@procore/js-sdk ]] || missing+=("$sdk/node_modules")

if ((${#missing[@]})); then
	printf 'MISSING, the tests that need it will be skipped: %s\n' "${missing[@]}" >&2
fi
export MPR_MISSING="${missing[*]-}"
if ! have gcc; then
	echo "The race detector needs a C compiler. Install gcc." >&2
	exit 1
fi

# The summary fails where a test fails, where a package doesn't build and, with CI=true,
# where a test is skipped. -count=1: the acceptance suite starts a binary that the cache
# of test results knows nothing of.
go build -o bin/summary ./test/summary
go test -race -count=1 -json -timeout "${TEST_TIMEOUT:-10m}" "${@:-./...}" | bin/summary
