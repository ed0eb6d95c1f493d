#!/usr/bin/env bash
# Checks what deploy holds with the tools that read it, as far as they need no engine and no cluster: BuildKit's parser and
# linter, Compose's loader, Kustomize and the API types of Kubernetes (deploy/check), systemd's verifier, the NATS server's
# parser, bash. It installs what is missing where it can; what it can't check is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

have() { command -v "$1" >/dev/null 2>&1; }

if ! have systemd-analyze && have apt-get && [[ $(id -u) == 0 ]]; then
	echo "Installing systemd, for its verifier"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -q update && apt-get -q install -y --no-install-recommends systemd; } >&2 || true
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

echo "mpr and its configuration"
CGO_ENABLED=0 go build -trimpath -o "$work/mpr" ./cmd/mpr
"$work/mpr" config check --json --config deploy/mpr.yaml || failed=1

echo "The Dockerfile, Compose, Kubernetes"
mkdir -p bin
(cd deploy/check && CGO_ENABLED=0 go build -trimpath -o ../../bin/check-deploy .)
bin/check-deploy deploy || failed=1

echo "The same with certificates between roles"
cp -r deploy "$work/deploy"
sed -i 's/^# \(internal_tls: \)/\1/' "$work/deploy/mpr.yaml"
sed -i 's/^# \(components: \)/\1/' "$work/deploy/kustomization.yaml"
grep -q '^internal_tls: ' "$work/deploy/mpr.yaml" && grep -q '^components: ' "$work/deploy/kustomization.yaml" || failed=1
bin/check-deploy "$work/deploy" || failed=1

echo "The secrets, twice: the second time changes nothing"
deploy/secrets.sh "$work/secrets"
before=$(cat "$work"/secrets/* | cksum)
deploy/secrets.sh "$work/secrets"
[[ $(cat "$work"/secrets/* | cksum) == "$before" ]] || { echo "deploy/secrets.sh replaces secrets" >&2; failed=1; }

echo "The units"
if have systemd-analyze; then
	# The verifier wants the program to be there.
	mkdir "$work/units"
	for unit in deploy/systemd/*.service; do
		name=$(basename "$unit")
		sed "s#/usr/local/bin/mpr#$work/mpr#" "$unit" >"$work/units/${name/@./@US01.}"
	done
	# It exits with 0 for settings that it doesn't know; what it says of our units is a mistake.
	said=$(systemd-analyze verify --recursive-errors=no "$work"/units/*.service 2>&1) || failed=1
	if grep -F "$work/units" <<<"$said" >&2; then failed=1; fi
	for unit in gateway login control region@US01; do
		# 0 is best, 10 worst.
		systemd-analyze security --offline=true --threshold=20 --no-pager "$work/units/mpr-$unit.service" | tail -1 || failed=1
	done
	systemd-sysusers --dry-run "$PWD/deploy/systemd/mpr.sysusers.conf" >/dev/null || failed=1
else
	echo "systemd-analyze is missing: install Debian's package systemd" >&2
	failed=1
fi

((failed == 0)) && echo "deploy is fine" || { echo "deploy has mistakes" >&2; exit 1; }
