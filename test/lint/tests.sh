#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests do not sleep and hope. Polling until a deadline is fine, and so is the
# clock of testing/synctest, which does not pass.

set -euo pipefail
cd "$(dirname "$0")/../.."

bad=0
while IFS= read -r file; do
	! grep -q '"testing/synctest"' "$file" || continue
	awk '/for .*{|deadline|time\.(Now|Since|Until)/ { poll = NR }
		/time\.Sleep\(/ && NR - poll > 5 { print FILENAME ":" NR ": sleeps, and nothing looks meanwhile"; bad = 1 }
		END { exit bad }' "$file" >&2 || bad=1
done < <(grep -rl --include='*_test.go' 'time\.Sleep(' .)
exit $bad
