#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Shell scripts pass shellcheck.

set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v shellcheck >/dev/null; then
	echo "shellcheck is not installed (Debian package shellcheck)" >&2
	[[ ${CI:-} != true ]] # elsewhere its lack is no fault
	exit
fi

# Left out: what dash knows beyond POSIX, variables and functions that a sourced
# file has for others, and guards against empty variables (set -u is there).
find . -path ./.git -prune -o -path ./bin -prune -o -path ./build -prune -o -type f -size +0 -print |
	while IFS= read -r file; do
		[[ $file == *.sh ]] || head -n 1 "$file" | grep -qaE '^#!.*\b(ba|da)?sh\b' || continue
		printf '%s\0' "$file"
	done | xargs -0 shellcheck --external-sources --source-path=SCRIPTDIR --severity=warning --exclude=SC2034,SC2115,SC2119,SC2120,SC2154,SC3045
