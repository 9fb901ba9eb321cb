#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Lower layers never import upper ones (docs/architecture.md). Each rule:
# packages, then what they must not depend on, not even through others.
# internal/cli is no layer but the inside of cmd/keelson: it is "cli" here.

set -euo pipefail
cd "$(dirname "$0")/../.."

# $ ends a package path; without it everything below is meant too.
rules='
internal/fault$        api conductor drivers ironic internal
internal/model$        api conductor drivers ironic internal/(store|queue|lxc|ca|keystone|policy|placement|ipam)
drivers$               api conductor drivers/ ironic internal/(store|queue|lxc|keystone|policy) libvirt.org github.com/moby github.com/gophercloud gorm.io
internal/(store|queue) api conductor drivers/ ironic internal/(lxc|keystone|policy) libvirt.org
internal/              api conductor drivers/ ironic
ironic                 api conductor drivers/ internal/(store|queue|lxc) libvirt.org
drivers/               api conductor ironic internal/(store|queue|lxc) libvirt.org
conductor              api
api                    conductor drivers ironic internal/lxc libvirt.org
cli                    api$ conductor drivers ironic internal libvirt.org gorm.io
api/portal             internal/(store|queue|policy|model)
'

module=$(go list -m)
# The standard library, whose names have no dot, has its own "internal".
# shellcheck disable=SC2016 # Go's template, not the shell's
pairs='{{$p := .ImportPath}}{{range .Deps}}{{$p}} {{.}}{{"\n"}}{{end}}'
deps=$(go list -tags "${GO_BUILD_TAGS-libvirt_dlopen}" -f "$pairs" ./... | grep ' .*\.' | sed "s|$module/||g; s|^internal/cli |cli |")
bad=0
while read -r from forbidden; do
	[[ $from ]] || continue
	if [[ $from == *$ ]]; then from=${from%$}; else from+='[^ ]*'; fi
	if found=$(grep -E "^($from) (${forbidden// /|})" <<<"$deps"); then
		echo "${found// / must not depend on }" >&2
		bad=1
	fi
done <<<"$rules"
exit $bad
