#!/usr/bin/env bash
# Installs what the tests need where it is missing, then runs all of them with the race
# detector; what has a store runs on SQLite and on PostgreSQL. What can't be installed is named; the tests that need it are skipped, and
# counted in the last line. With CI=true a skip is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

have() { command -v "$1" >/dev/null 2>&1; }

# Debian keeps PostgreSQL's server out of the PATH.
find_postgres() {
	local dir
	for dir in /usr/lib/postgresql/*/bin; do
		[[ ! -x $dir/initdb ]] || PATH=$dir:$PATH
	done
}
find_postgres

# program:Debian package
wanted=(gcc:gcc curl:curl chromium:chromium node:nodejs npm:npm initdb:postgresql)

mapfile -t missing < <(scripts/install.sh "${wanted[@]}")
find_postgres

# The JavaScript SDK, and what looks for barriers in our pages, as npm ships them.
for packages in test/acceptance/jssdk/node_modules/@procore/js-sdk test/acceptance/axe/node_modules/axe-core; do
	folder=${packages%%/node_modules/*}
	if have npm && [[ ! $folder/node_modules/.package-lock.json -nt $folder/package-lock.json ]]; then
		npm --prefix "$folder" ci --no-audit --no-fund --loglevel=error || true
	fi
	[[ -d $packages ]] || missing+=("$folder/node_modules")
done

if ((${#missing[@]})); then
	printf 'MISSING, the tests that need it will be skipped: %s\n' "${missing[@]}" >&2
fi
export MPR_MISSING="${missing[*]-}"
if ! have gcc; then
	echo "The race detector needs a C compiler. Install gcc." >&2
	exit 1
fi

# A PostgreSQL of our own, for nobody else: on a socket in a folder that is deleted at the
# end. It refuses to run as root and runs as Debian's user postgres there.
cluster='' as=()
start_postgres() {
	cluster=$(mktemp -d)
	if [[ $(id -u) == 0 ]]; then
		# In a folder that it may enter, which ours needn't be.
		as=(env -C "$cluster" setpriv --reuid=postgres --regid=postgres --clear-groups)
		chown postgres: "$cluster" || return
	fi
	"${as[@]}" initdb -D "$cluster/data" -U mpr -A trust -E UTF8 --locale=C --no-sync >"$cluster/log" 2>&1 || return
	# What is lost with the power is of no use to anybody.
	"${as[@]}" pg_ctl -D "$cluster/data" -l "$cluster/data/log" -w start -o \
		"-k '$cluster' -c listen_addresses= -c max_connections=300 -c fsync=off -c synchronous_commit=off -c full_page_writes=off" >>"$cluster/log" 2>&1 || return
	export MPR_TEST_POSTGRES="postgres://mpr@/postgres?host=$cluster"
}
stop_postgres() {
	[[ ! -f $cluster/data/postmaster.pid ]] || "${as[@]}" pg_ctl -D "$cluster/data" -m immediate stop >/dev/null || true
	[[ -z $cluster ]] || rm -rf "$cluster"
}
if [[ -z ${MPR_TEST_POSTGRES-} ]] && have initdb; then
	trap stop_postgres EXIT
	if ! start_postgres; then
		unset MPR_TEST_POSTGRES
		echo "PostgreSQL doesn't start:" >&2
		cat "$cluster"/log "$cluster"/data/log >&2 || true
	fi
fi

# SQLite, which is C put into Go, takes its memory from libc and not from Go. To check each of its
# pointers against Go's heap finds nothing there, and takes nearly half of the time of what uses
# a store. All other packages keep these checks, and all of them the race detector. Lint has
# done what vet does.
race=(-race '-gcflags=modernc.org/...=-d=checkptr=0')
run() { go test "${race[@]}" -vet=off -count=1 -json -timeout "${TEST_TIMEOUT:-10m}" "$@"; }
stores=(./region ./login ./store ./ledger ./webhook ./operator)
# These take longest, so they begin. All of them wait much.
long=(./test/acceptance ./stack ./test/faults ./region ./login)

# What runs beside the rest: large ones without the race detector, which would take minutes, and
# what has a store on PostgreSQL.
run_beside() {
	local status=0
	echo "Without the race detector: a large company moves"
	# Built like bin/mpr, so that little is left to compile.
	MPR_TEST_LARGE=220000 CGO_ENABLED=0 go test -trimpath -vet=off -count=1 -json -timeout "${TEST_TIMEOUT:-10m}" -run '^TestLargeCompanies' ./stack || status=1
	if [[ -n ${MPR_TEST_POSTGRES-} ]]; then
		echo "On PostgreSQL: ${stores[*]}, moves between both engines, and moves that apps delay"
		run -p 1 "${stores[@]}" || status=1
		run -run '^(TestMovesBetweenEngines|TestAMoveWaits.*)$' ./stack || status=1
	else # for the summary to count
		printf '{"Action":"%s","Package":"%s","Test":"on PostgreSQL","Output":"PostgreSQL is missing: install it, or run make test as root on Debian\\n"}\n' \
			output "${stores[*]}" skip "${stores[*]}"
	fi
	return $status
}

run_all() {
	local status=0
	if (($#)); then # somebody asks for some packages only
		(unset MPR_TEST_POSTGRES && run "$@")
		return
	fi
	# The mpr that the acceptance tests start, and with it nearly all that there is to compile:
	# two runs of go that compile the same thing at once both do it.
	mkdir -p bin
	go build "${race[@]}" -o bin/mpr-race ./cmd/mpr || return
	export MPR_TEST_BINARY=$PWD/bin/mpr-race
	local beside pid
	beside=$(mktemp)
	run_beside >"$beside" &
	pid=$!
	(unset MPR_TEST_POSTGRES && run -p 3 "${long[@]}" ./...) || status=1
	wait "$pid" || status=1
	cat "$beside"
	rm "$beside"
	return $status
}

# The summary fails where a test fails, where a package doesn't build and, with CI=true,
# where a test is skipped. -count=1: the acceptance suite starts a binary that the cache
# of test results knows nothing of.
go build -o bin/summary ./test/summary
run_all "$@" | bin/summary
