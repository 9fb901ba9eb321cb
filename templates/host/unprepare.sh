#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Undo prepare.sh: destroy the host's nodes and take away its libvirtd, mounts,
# bridge, firewall rules and files. The node images stay. Doing it twice, or
# after a half-done prepare.sh, is fine.
#
# Environment: KEELSON_STATE, as for prepare.sh.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin

STATE=${KEELSON_STATE:-/var/lib/keelson/host}
[ "$(id -u)" = 0 ] || { echo "unprepare: must be run by root" >&2; exit 1; }
[ -e "$STATE/host.env" ] || exit 0 # only this file tells that the directory is ours
. "$STATE/host.env"

# is PID PROGRAM tells whether the process runs that program.
is() {
	case $(readlink "/proc/$1/exe" 2>/dev/null) in */"$2" | */"$2 (deleted)") true ;; *) false ;; esac
}

# stop SIGNAL PID PROGRAM waits for the process to end.
stop() {
	tries=0
	while is "$2" "$3"; do
		[ $tries -gt 0 ] || kill -"$1" "$2" 2>/dev/null || true
		tries=$((tries + 1))
		[ $tries -le 200 ] || { kill -KILL "$2" 2>/dev/null || true; return; }
		sleep 0.05
	done
}

nodes=$(cd "$STATE/etc/lxc" 2>/dev/null && ls keelson-*.xml 2>/dev/null | sed 's/\.xml$//' || true)
for name in $nodes; do
	# Destroy alone would give the node's processes time to stop.
	virsh -q -c "$KEELSON_HOST_URI" send-process-signal "$name" 1 kill >/dev/null 2>&1 || true
	virsh -q -c "$KEELSON_HOST_URI" destroy "$name" >/dev/null 2>&1 || true
	virsh -q -c "$KEELSON_HOST_URI" undefine "$name" >/dev/null 2>&1 || true
done
[ ! -s "$STATE/libvirtd.pid" ] || stop TERM "$(cat "$STATE/libvirtd.pid")" libvirtd
# Nodes that libvirtd could not be asked to destroy. With its controller a
# node's init goes, and with that all of the node.
for pidfile in "$STATE"/run/lxc/keelson-*.pid; do
	[ -s "$pidfile" ] || continue
	controller=$(cat "$pidfile")
	is "$controller" libvirt_lxc || continue
	init=$(cat "/proc/$controller/task/$controller/children" 2>/dev/null || true)
	for pid in $init; do kill -KILL "$pid" 2>/dev/null || true; done
	stop KILL "$controller" libvirt_lxc
done

# Without processes and pin the namespace ends, with all its mounts.
if mountpoint -q "$STATE/ns/mnt"; then umount "$STATE/ns/mnt"; fi
if mountpoint -q "$STATE/ns"; then umount "$STATE/ns"; fi

for name in $nodes; do
	for group in /sys/fs/cgroup/*/machine/*"$name"* /sys/fs/cgroup/machine/*"$name"* /sys/fs/cgroup/*/keelson/"${name#keelson-}"; do
		[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
	done
done
# Made by the first node of the machine; in use by others they are not empty.
rmdir /sys/fs/cgroup/*/keelson /sys/fs/cgroup/*/machine /sys/fs/cgroup/machine 2>/dev/null || true

for table in filter nat; do
	iptables -w -t $table -S 2>/dev/null | grep -E -- "--comment \"?keelson:$KEELSON_HOST_BRIDGE\"? " | sed 's/^-A/-D/' |
		while read -r rule; do eval "iptables -w -t $table $rule"; done
done
if [ -e "$STATE/set-ip-forward" ] && ! iptables -w -t nat -S 2>/dev/null | grep -q 'keelson:'; then
	echo 0 >/proc/sys/net/ipv4/ip_forward
fi
[ -z "${KEELSON_HOST_FIREWALL:-}" ] || nft delete table inet keelson-host 2>/dev/null || true
ip link delete "$KEELSON_HOST_BRIDGE" 2>/dev/null || true
nft delete table inet "keelson-$KEELSON_HOST_BRIDGE" 2>/dev/null || true
# What a node leaves that libvirtd could not be asked to destroy: rules for a
# port that is gone, and for addresses that nobody has.
if ! nft list tables 2>/dev/null | grep -q '^table inet keelson-'; then
	nft delete table bridge keelson 2>/dev/null || true
	if [ -e "$STATE/limits" ]; then
		while read -r name value; do echo "$value" >"/proc/sys/$(printf %s "$name" | tr . /)"; done <"$STATE/limits"
	fi
fi

# A disk is in use until the kernel has taken the last mount apart.
in_use() {
	for disk in "$STATE"/nodes/*.img; do
		[ -e "$disk" ] || continue
		if cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep -qF "/${disk##*/}"; then return 0; fi
	done
	return 1
}
tries=0
while in_use; do
	tries=$((tries + 1))
	[ $tries -le 100 ] || { echo "unprepare: a disk below $STATE/nodes is still in use (losetup)" >&2; exit 1; }
	sleep 0.05
done
for directory in nodes roots work ns run etc lib cache log; do
	rm -rf --one-file-system "${STATE:?}/$directory"
done
rm -f "$STATE/libvirtd.pid" "$STATE/libvirtd.sum" "$STATE/set-ip-forward" "$STATE/limits" "$STATE/host.env"
if mountpoint -q "$STATE"; then umount "$STATE"; fi
rmdir "$STATE" 2>/dev/null || true
