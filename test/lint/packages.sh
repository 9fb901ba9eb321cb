#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every package is in the table of docs/architecture.md.

set -euo pipefail
cd "$(dirname "$0")/../.."

bad=0
while IFS= read -r package; do
	grep -qF "\`$package\`" docs/architecture.md || {
		echo "docs/architecture.md: package $package is not in the table" >&2
		bad=1
	}
done < <(find . \( -path ./.git -o -path ./bin -o -path ./build -o -name testdata \) -prune -o -name '*.go' -printf '%h\n' | sort -u | sed 's|^\./||')
exit $bad
