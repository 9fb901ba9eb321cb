#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The files that are made from the code say what the code says. With --write
# [FILE] they are written anew.

set -euo pipefail
cd "$(dirname "$0")/../.."

write='' only=''
[[ ${1:-} != --write ]] || { write=1 && only=${2:-}; }

# run PROGRAM ARGUMENT...: what it prints.
run() { go run -tags "${GO_BUILD_TAGS-libvirt_dlopen}" "./cmd/$1" "${@:2}"; }

bad=0
while read -r file command; do
	[[ -z $only || $file == "$only" ]] || continue
	# shellcheck disable=SC2086 # a command line
	fresh=$(run $command && echo .) # the dot keeps the last line's end
	if [[ $write ]]; then
		printf '%s' "${fresh%.}" >"$file"
	elif ! diff -u "$file" <(printf '%s' "${fresh%.}") >&2; then
		echo "$file is not what the code says: make generate" >&2
		bad=1
	fi
done <<'EOT'
etc/keelson/keelson.conf.sample keelsond config sample
etc/keelson/policy.yaml.sample keelsond policy sample
docs/cli-reference.md keelson reference
EOT
exit $bad
