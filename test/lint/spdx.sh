#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every Go file and every script says its licence in its first lines.

set -euo pipefail
cd "$(dirname "$0")/../.."

bad=0
while IFS= read -r file; do
	[[ $file == *.go || $file == *.sh || $(head -c 2 "$file") == '#!' ]] || continue
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || {
		echo "$file: no SPDX-License-Identifier line at its head" >&2
		bad=1
	}
done < <(find . -path ./.git -prune -o -path ./bin -prune -o -path ./build -prune -o -type f -size +0 -print)
exit $bad
