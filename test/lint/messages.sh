#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What the headings of docs/troubleshooting.md quote is what the code says.

set -euo pipefail
cd "$(dirname "$0")/../.."

bad=0
while IFS= read -r quoted; do
	grep -rqF --exclude='*_test.go' -- "$quoted" api cmd conductor drivers internal ironic templates || {
		echo "docs/troubleshooting.md: nothing says \"$quoted\"" >&2
		bad=1
	}
done < <(grep '^### ' docs/troubleshooting.md | grep -oE '`[^`]+`' | tr -d '`')
exit $bad
