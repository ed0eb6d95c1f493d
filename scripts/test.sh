#!/usr/bin/env bash
# Installs what the tests need where it is missing, then runs all of them with the race detector on
# SQLite, and those with a store on PostgreSQL as well. What can't be installed is named; the tests that
# need it are skipped, and counted in the last line. With CI=true a skip is a failure.
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
wanted=(gcc:gcc curl:curl chromium:chromium node:nodejs npm:npm initdb:postgresql nginx:nginx-light)

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

# Tests of others for HTTP/2.
[[ -x bin/h2spec ]] || GOBIN=$PWD/bin go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible >&2 || missing+=(bin/h2spec)

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
		"-k '$cluster' -c listen_addresses= -c max_connections=1000 -c max_wal_size=4GB -c fsync=off -c synchronous_commit=off -c full_page_writes=off" >>"$cluster/log" 2>&1 || return
	export MPR_TEST_POSTGRES="postgres://mpr@/postgres?host=$cluster"
}
stop_postgres() {
	[[ ! -f $cluster/data/postmaster.pid ]] || "${as[@]}" pg_ctl -D "$cluster/data" -m immediate stop >/dev/null || true
	[[ -z $cluster ]] || rm -rf "$cluster"
}
if (($# == 0)) || [[ ${ENGINE-} == postgres ]] && [[ -z ${MPR_TEST_POSTGRES-} ]] && have initdb; then
	trap stop_postgres EXIT
	if ! start_postgres; then
		unset MPR_TEST_POSTGRES
		echo "PostgreSQL doesn't start:" >&2
		cat "$cluster"/log "$cluster"/data/log >&2 || true
	fi
fi

# SQLite, which is C put into Go, takes its memory from libc and not from Go: neither the race detector
# nor the checks of pointers know of it. To ask them all the same takes half of the time of what uses a
# store, and of what hashes passwords, each hash in memory of its own. So those two do without, as all
# that is SQLite's does without the checks of pointers; everything else has both.
race=(-race '-gcflags=modernc.org/...=-d=checkptr=0' '-gcflags=modernc.org/sqlite/lib=-d=checkptr=0 -race=false' '-gcflags=golang.org/x/crypto/argon2=-race=false')
go_test() { go test -vet=off -count=1 -json -timeout "${TEST_TIMEOUT:-30m}" "$@"; } # lint has done what vet does
run() { go_test "${race[@]}" "$@"; }
# Without the race detector; built like bin/mpr, so that little is left to compile.
run_plain() { CGO_ENABLED=0 MPR_TEST_BINARY=$PWD/bin/mpr go_test -trimpath "$@"; }

# These take longest, so they begin. All of them wait much.
long=(./test/acceptance ./stack ./test/faults ./directory ./region ./login)
# Those that start processes. Races in these are looked for on SQLite; on PostgreSQL the processes are
# as they are shipped, which takes a third of the time.
processes=(./test/acceptance ./test/faults ./cmd/mpr)
# What would take minutes with the race detector, and runs nothing beside itself that other tests don't.
plain='^(TestLargeCompanies.*|TestBrokenRegionsDoNotConform)$'

# with_stores are the packages whose tests have stores, but those that start processes.
with_stores() {
	go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep '[[ ]mpr/test/engine[] ]' | cut -d ' ' -f 1 |
		grep -vxE "mpr/($(IFS='|' && echo "${processes[*]#./}")|test/summary)"
}

run_on_postgres() {
	local status=0
	if [[ -z ${MPR_TEST_POSTGRES-} ]]; then # for the summary to count
		printf '{"Action":"%s","Package":"mpr","Test":"on PostgreSQL","Output":"PostgreSQL is missing: install it, or run make test as root on Debian\\n"}\n' output skip
		return
	fi
	local packages
	mapfile -t packages < <(with_stores)
	echo "On PostgreSQL: ${packages[*]} ${processes[*]}"
	run -p 2 -skip "$plain" "${packages[@]}" || status=1
	run_plain -run '^TestBrokenRegionsDoNotConform$' ./stack || status=1
	run_plain "${processes[@]}" || status=1
	return $status
}

# What runs once the rest has: side by side they would take each other's time.
run_after() {
	local status=0
	echo "Without the race detector: a large company moves, and regions break the contract"
	(unset MPR_TEST_POSTGRES && MPR_TEST_LARGE=220000 run_plain -run "$plain" ./stack) || status=1
	run_on_postgres || status=1
	return $status
}

run_all() {
	local status=0
	if (($#)); then # somebody asks for some packages only; with ENGINE=postgres on that
		[[ ${ENGINE-} == postgres ]] || unset MPR_TEST_POSTGRES
		run "$@"
		return
	fi
	# The mpr that the acceptance tests start, and with it nearly all that there is to compile:
	# two runs of go that compile the same thing at once both do it.
	mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -o bin/mpr ./cmd/mpr || return
	go build "${race[@]}" -o bin/mpr-race ./cmd/mpr || return
	export MPR_TEST_BINARY=$PWD/bin/mpr-race
	(unset MPR_TEST_POSTGRES && run -p 3 -skip "$plain" "${long[@]}" ./...) || status=1
	run_after || status=1
	return $status
}

# The summary fails where a test fails, where a package doesn't build and, with CI=true,
# where a test is skipped. -count=1: the acceptance suite starts a binary that the cache
# of test results knows nothing of.
go build -o bin/summary ./test/summary
run_all "$@" | bin/summary
