#!/usr/bin/env bash
# Makes the secrets that deploy/mpr.yaml names, in a folder (deploy/secrets, which git ignores). What is there already stays.
#
#   deploy/secrets.sh [FOLDER]
set -euo pipefail
folder=${1:-$(dirname "${BASH_SOURCE[0]}")/secrets}
umask 077
mkdir -p "$folder"
cd "$folder"

random() { head -c 32 /dev/urandom | base64 | tr -d '=+/\n'; }
make() { # FILE, with what it is to hold
	[[ -e $1 ]] || { printf '%s\n' "$2" >".$1.new" && mv ".$1.new" "$1"; }
}

make internal.secret "$(random)"
make admin.token "$(random)"
make nats.password "$(random)"
make postgres.password "$(random)"
make pgpass "*:*:*:mpr:$(<postgres.password)"
make nats-authorization.conf "authorization { user: mpr, password: \"$(<nats.password)\" }"

# Compose mounts these files as they are, and containers run as user 65532: nobody else may enter the folder.
chmod 0444 -- *
chmod 0700 .
