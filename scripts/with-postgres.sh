#!/usr/bin/env bash
# Runs a command with a PostgreSQL of its own, whose DSN is in MPR_BENCH_POSTGRES, and deletes it
# afterwards. Other than that of the tests it syncs what is committed, as one in production does.
set -euo pipefail

for dir in /usr/lib/postgresql/*/bin; do # Debian keeps the server out of the PATH
	[[ ! -x $dir/initdb ]] || PATH=$dir:$PATH
done
if ! command -v initdb >/dev/null 2>&1; then
	echo "PostgreSQL's server is missing. On Debian: apt-get install postgresql" >&2
	exit 1
fi

cluster=$(mktemp -d) as=()
if [[ $(id -u) == 0 ]]; then # it refuses to run as root
	as=(env -C "$cluster" setpriv --reuid=postgres --regid=postgres --clear-groups)
	chown postgres: "$cluster"
fi
stop() {
	[[ ! -f $cluster/data/postmaster.pid ]] || "${as[@]}" pg_ctl -D "$cluster/data" -m immediate stop >/dev/null || true
	rm -rf "$cluster"
}
trap stop EXIT
"${as[@]}" initdb -D "$cluster/data" -U mpr -A trust -E UTF8 --locale=C >"$cluster/log" 2>&1 || { cat "$cluster/log" >&2; exit 1; }
"${as[@]}" pg_ctl -D "$cluster/data" -l "$cluster/data/log" -w start -o \
	"-k '$cluster' -c listen_addresses= -c shared_buffers=1GB -c max_wal_size=4GB" >>"$cluster/log" 2>&1 || { cat "$cluster/log" "$cluster/data/log" >&2; exit 1; }
MPR_BENCH_POSTGRES="postgres://mpr@/postgres?host=$cluster" "$@"
