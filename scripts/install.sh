#!/usr/bin/env bash
# Installs what is missing of PROGRAM:PACKAGE ..., where it may (Debian, root), and prints the
# programs that are still missing then. Nothing that a package brings is started.
set -euo pipefail

# Debian keeps some programs out of the PATH.
have() { (PATH=$PATH:/usr/sbin:$(printf '%s:' /usr/lib/postgresql/*/bin); command -v "$1") >/dev/null 2>&1; }

packages=()
for pair in "$@"; do
	have "${pair%%:*}" || packages+=("${pair##*:}")
done
if ((${#packages[@]})) && have apt-get && [[ $(id -u) == 0 ]]; then
	echo "Installing ${packages[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	# Servers must not take their usual ports, nor run beside what is measured.
	export RUNLEVEL=1
	{ apt-get -q update && apt-get -q install -y --no-install-recommends "${packages[@]}"; } >&2 ||
		echo "apt-get failed; going on without" >&2
fi
for pair in "$@"; do
	have "${pair%%:*}" || echo "${pair%%:*}"
done
