#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# This machine as a Keelson host, prepared by the same script as a real one,
# with a libvirtd, a bridge and a network of the lab's own. The node image is
# built (or found in the machine's cache) meanwhile. A second one, with a later
# Docker, is for tests of upgrades: nothing waits for it here, those tests do
# (testenv.AwaitNextImage).

. "$(dirname "$0")/lib.sh"
part=libvirt
dir=$state/libvirt
templates=$here/../../templates
images=${KEELSON_LAB_IMAGES:-/var/cache/keelson/images}

"$templates/node/build.sh" "$images" >"$state/log/libvirt-image.name" 2>"$state/log/libvirt-image.log" &
image=$!
"$here/cloud-init" >"$state/log/cloud-init.name" 2>"$state/log/cloud-init.log" &
cloud_init=$!

# Bridge and network are the machine's, not the lab's: named after the lab, and
# numbered away from what is in use.
number=$(cksum <<<"$state" | cut -d ' ' -f 1)
bridge=$(printf 'kl%08x' "$number")
network() { echo "10.$((100 + number % 150)).0.1/16"; }
while [[ -n $(ip -4 -oneline address show to "$(network)" | awk -v ours="$bridge" '$2 != ours') ]]; do number=$((number + 1)); done
KEELSON_STATE=$dir KEELSON_IMAGE_CACHE=$images KEELSON_BRIDGE=$bridge KEELSON_BRIDGE_CIDR=$(network) \
	"$templates/host/prepare.sh" >>"$state/log/libvirt.log" 2>&1 || fail "templates/host/prepare.sh failed, see $state/log/libvirt.log"
adopt libvirt "$(<"$dir/libvirtd.pid")"

# shellcheck disable=SC1091 # made by prepare.sh
. "$dir/host.env"
wait "$image" || fail "the node image cannot be built, see $state/log/libvirt-image.log"
wait "$cloud_init" || fail "cloud-init cannot be unpacked, see $state/log/cloud-init.log"

next=$("$templates/node/build.sh" -n "$images" trixie)
if [[ ! -d $images/$next ]] && ! running image-next; then
	daemon image-next nice -n 19 "$templates/node/build.sh" "$images" trixie
fi

provide KEELSON_TEST_LIBVIRT "$KEELSON_HOST_URI"
provide KEELSON_TEST_BRIDGE "$KEELSON_HOST_BRIDGE"
provide KEELSON_TEST_BRIDGE_CIDR "$KEELSON_HOST_CIDR"
provide KEELSON_TEST_NODE_IMAGE "$(<"$state/log/libvirt-image.name")"
provide KEELSON_TEST_NODE_IMAGE_NEXT "$next"
provide KEELSON_TEST_IMAGES "$images"
provide KEELSON_TEST_CLOUD_INIT "$(<"$state/log/cloud-init.name")"
