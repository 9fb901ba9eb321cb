#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Links from one document to another file of the project lead somewhere.

set -euo pipefail
cd "$(dirname "$0")/../.."

bad=0
while IFS=: read -r file link; do
	target=${link%%#*}
	[[ $target && $target != *://* && $target != mailto* ]] || continue
	[[ -e $(dirname "$file")/$target ]] || {
		echo "$file: no such file: $target" >&2
		bad=1
	}
done < <(find README.md docs -name '*.md' -exec grep -oHE '\]\([^) ]+\)' {} + | sed 's/:](\(.*\))$/:\1/')
exit $bad
