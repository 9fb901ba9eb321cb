#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Make this machine a Keelson host: a bridge, and a libvirtd that runs LXC
# nodes. unprepare.sh takes all of it away again.
#
# libvirtd gets a mount namespace and directories of its own, so the machine's
# libvirt, if it has one, is left alone, and several hosts can be prepared on
# one machine (with different KEELSON_STATE, KEELSON_BRIDGE and address, or in
# different network namespaces). Running it again repairs what is missing: it
# also starts a libvirtd that has died, and running nodes go on running.
#
# Environment:
#   KEELSON_STATE        directory of the host       (/var/lib/keelson/host)
#   KEELSON_BRIDGE       bridge for the nodes        (keelson0)
#   KEELSON_BRIDGE_CIDR  its address and network, several with commas between them
#                        if nodes have several networks, or "none" (10.42.0.1/16)
#   KEELSON_BRIDGE_NAT   "yes": nodes reach what the machine reaches (no)
#   KEELSON_NODE_NETWORKS  where nodes are, here and on other hosts, with commas
#                        between them (the network of KEELSON_BRIDGE_CIDR)
#   KEELSON_FORBIDDEN    networks that they do not reach even so, like those of
#                        the control plane: "192.0.2.0/24,198.51.100.7" ()
#   KEELSON_BRIDGE_UPLINK  interface that joins the bridge to the network of the
#                        nodes of all hosts; it must have no address (none)
#   KEELSON_IMAGE_CACHE  directory of node images    (/var/cache/keelson/images)
#   KEELSON_IMAGE_LIST   file with a line "NAME SHA256 URL" for each archive of a
#                        node image to fetch         (none)
#   KEELSON_STORAGE      disk for KEELSON_STATE; an empty one is formatted (none)
#   KEELSON_PKI          directory of cacert.pem, servercert.pem, serverkey.pem:
#                        libvirtd listens for conductors, who must show a
#                        certificate of that CA (none: on a local socket only)
#   KEELSON_FIREWALL     nftables rules to load      (none)
#
# Prints, and writes to KEELSON_STATE/host.env, the connection URI, the bridge
# and its address as shell assignments.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
here=$(cd "$(dirname "$0")" && pwd)

STATE=${KEELSON_STATE:-/var/lib/keelson/host}
BRIDGE=${KEELSON_BRIDGE:-keelson0}
CIDR=${KEELSON_BRIDGE_CIDR:-10.42.0.1/16}
NAT=${KEELSON_BRIDGE_NAT:-no}
NODE_NETWORKS=${KEELSON_NODE_NETWORKS:-}
FORBIDDEN=${KEELSON_FORBIDDEN:-}
UPLINK=${KEELSON_BRIDGE_UPLINK:-}
IMAGES=${KEELSON_IMAGE_CACHE:-/var/cache/keelson/images}
IMAGE_LIST=${KEELSON_IMAGE_LIST:-}
STORAGE=${KEELSON_STORAGE:-}
PKI=${KEELSON_PKI:-}
FIREWALL=${KEELSON_FIREWALL:-}
[ "$CIDR" = none ] && ADDRESSES= || ADDRESSES=$(echo "$CIDR" | tr , ' ')

fail() {
	echo "prepare: $*" >&2
	exit 1
}

check_machine() {
	[ "$(id -u)" = 0 ] || fail "must be run by root"
	for program in libvirtd virsh mkfs.ext4 ip iptables nft unshare nsenter; do
		command -v $program >/dev/null || fail "$program is not installed: apt-get install libvirt-daemon-system libvirt-daemon-driver-lxc libvirt-clients e2fsprogs iproute2 iptables nftables"
	done
	[ -x /usr/bin/python3 ] || fail "/usr/bin/python3 is not installed: the lxc hook needs it"
	ls /usr/lib/*/libseccomp.so.2 /lib/*/libseccomp.so.2 >/dev/null 2>&1 || fail "libseccomp is not installed: apt-get install libseccomp2"
	ls /usr/lib/*/libvirt/connection-driver/libvirt_driver_lxc.so >/dev/null 2>&1 ||
		fail "libvirt has no LXC driver: apt-get install libvirt-daemon-driver-lxc"
	kernel=$(uname -r)
	printf '5.19\n%s\n' "${kernel%%-*}" | sort -CV || fail "Linux $kernel is too old: 5.19 is needed"
	case $STATE in /?*) ;; *) fail "KEELSON_STATE must be an absolute path, not '$STATE'" ;; esac
	case $BRIDGE in *[!a-zA-Z0-9_.-]* | "" | ????????????????*) fail "KEELSON_BRIDGE must be a name of at most 15 characters" ;; esac
	[ ${#STATE} -le 80 ] || fail "KEELSON_STATE is too long for a socket below it"
	[ -z "$FIREWALL" ] || command -v nft >/dev/null || fail "nft is not installed: apt-get install nftables"
	[ -z "$IMAGE_LIST" ] || command -v curl >/dev/null || fail "curl is not installed: apt-get install curl"
	[ "$NAT" != yes ] || [ "$CIDR" != none ] || fail "KEELSON_BRIDGE_NAT needs an address in KEELSON_BRIDGE_CIDR"
	for file in ${PKI:+cacert.pem servercert.pem serverkey.pem}; do
		[ -s "$PKI/$file" ] || fail "$PKI/$file is missing"
	done
}

# mount_storage gives the nodes a file system of their own. Whatever they write,
# the machine's root does not run full.
mount_storage() {
	[ -n "$STORAGE" ] || return 0
	mkdir -p "$STATE"
	mountpoint -q "$STATE" && return 0
	[ -b "$STORAGE" ] || fail "KEELSON_STORAGE: $STORAGE is not a disk"
	found=0
	kind=$(blkid -p -s TYPE -o value "$STORAGE") || found=$?
	case $found:$kind in
	0:ext4 | 0:xfs) ;;
	2:) mkfs.ext4 -q -m 0 -L keelson-nodes "$STORAGE" ;; # nothing is on it
	*) fail "KEELSON_STORAGE: $STORAGE holds ${kind:-something} already: wipe it (wipefs -a) or name another disk" ;;
	esac
	mount -o nodev,nosuid,noatime "$STORAGE" "$STATE"
}

load_firewall() {
	[ -z "$FIREWALL" ] || nft -f "$FIREWALL" || fail "the rules in $FIREWALL cannot be loaded"
}

# fetch_images gets the node images that are not there yet. Like those of
# node/build.sh their trees never change, and the link NAME is the newest one.
fetch_images() {
	[ -n "$IMAGE_LIST" ] || return 0
	while read -r name sum url; do
		tree=$name-$(echo "$sum" | cut -c 1-12)
		if [ ! -d "$IMAGES/$tree" ]; then
			rm -rf "$IMAGES"/.fetch.* # of one that was cut off
			work=$(mktemp -d "$IMAGES/.fetch.XXXXXX")
			curl --fail --silent --show-error --location --proto =http,https --retry 5 --connect-timeout 20 \
				--output "$work/archive" "$url" || not_fetched "node image $name cannot be fetched from $url"
			echo "$sum  $work/archive" | sha256sum --check --status ||
				not_fetched "node image $name from $url has not the checksum $sum: it is not used"
			mkdir "$work/root"
			tar --extract --file "$work/archive" --directory "$work/root" --numeric-owner --same-permissions --xattrs --xattrs-include='*' ||
				not_fetched "node image $name from $url cannot be unpacked"
			[ -x "$work/root/usr/sbin/keelson-init" ] || not_fetched "$url is not a node image: it has no /usr/sbin/keelson-init"
			chmod 755 "$work/root"
			mv "$work/root" "$IMAGES/$tree"
			rm -rf "$work"
		fi
		ln -sfn "$tree" "$IMAGES/.$name.link"
		mv -T "$IMAGES/.$name.link" "$IMAGES/$name"
	done <"$IMAGE_LIST"
}

make_directories() {
	# The node's root user must be able to pass through it to its own root.
	for directory in "$STATE" "$STATE/roots" "$STATE/work"; do
		mkdir -p "$directory"
		chmod 711 "$directory"
	done
	for directory in nodes ns run etc etc/hooks lib cache log; do
		mkdir -p "$STATE/$directory"
	done
	chmod 700 "$STATE/nodes" "$STATE/ns"
	mkdir -p "$IMAGES"
	chmod 700 "$IMAGES"
}

# raise_limits raises what the kernel counts for the whole machine, or for the
# machine's root, who made the nodes' user namespaces: one node could use it up
# for all. What bounds a node instead is its memory, which all of these take,
# and its number of processes.
raise_limits() {
	at_least kernel.pid_max 4194304
	at_least fs.file-max 9223372036854775807
	for kind in inotify.max_user_instances inotify.max_user_watches fanotify.max_user_groups fanotify.max_user_marks; do
		at_least fs.$kind 2147483647
	done
	for kind in cgroup ipc mnt net pid time user uts; do
		at_least user.max_${kind}_namespaces 2147483647
	done
	at_least net.ipv4.neigh.default.gc_thresh1 16384
	at_least net.ipv4.neigh.default.gc_thresh2 262144
	at_least net.ipv4.neigh.default.gc_thresh3 524288
	# And what the kernel tells of itself.
	at_least kernel.dmesg_restrict 1
	at_least kernel.kptr_restrict 1
	at_least kernel.perf_event_paranoid 2
	at_least kernel.unprivileged_bpf_disabled 1
}

# at_least NAME VALUE raises a sysctl and remembers what it was.
at_least() {
	file=/proc/sys/$(printf %s "$1" | tr . /)
	[ -w "$file" ] || return 0
	was=$(cat "$file")
	[ "$was" -lt "$2" ] || return 0
	grep -q "^$1 " "$STATE/limits" 2>/dev/null || echo "$1 $was" >>"$STATE/limits"
	echo "$2" >"$file"
}

not_fetched() {
	rm -rf "$work"
	fail "$@"
}

make_bridge() {
	# Two bridges with one network: what is meant for ours would go to the other.
	for cidr in $ADDRESSES; do
		taken=$(ip -4 -oneline address show to "$cidr" | awk -v ours="$BRIDGE" '$2 != ours { print $2; exit }')
		[ -z "$taken" ] || fail "the network of $cidr is in use on $taken: choose another one with KEELSON_BRIDGE_CIDR"
	done
	if [ ! -e "/sys/class/net/$BRIDGE" ]; then
		# An address of its own keeps the bridge's from changing with its ports.
		ip link add "$BRIDGE" address "$(od -An -N5 -tx1 /dev/urandom | sed 's/ /:/g; s/^/02/')" type bridge forward_delay 0
	fi
	for cidr in $ADDRESSES; do
		ip address replace "$cidr" dev "$BRIDGE"
	done
	ip link set "$BRIDGE" up
	if [ -n "$UPLINK" ]; then
		address=$(ip -4 -oneline address show dev "$UPLINK") || fail "KEELSON_BRIDGE_UPLINK: there is no interface $UPLINK"
		[ -z "$address" ] || fail "KEELSON_BRIDGE_UPLINK: $UPLINK has an address, which the machine would lose"
		ip link set "$UPLINK" master "$BRIDGE" up
	fi
	# Where br_netfilter is on, bridged packets pass the FORWARD chain, which
	# Docker and some distributions close.
	rule filter FORWARD -i "$BRIDGE" -o "$BRIDGE" -j ACCEPT
	rule filter INPUT -i "$BRIDGE" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	networks=$(ip -4 route show dev "$BRIDGE" proto kernel scope link | cut -d' ' -f1)
	if [ "$NAT" = yes ]; then
		rule filter FORWARD -i "$BRIDGE" ! -o "$BRIDGE" -j ACCEPT
		rule filter FORWARD -o "$BRIDGE" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		for network in $networks; do
			rule nat POSTROUTING -s "$network" ! -o "$BRIDGE" -j MASQUERADE
		done
		if [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]; then
			touch "$STATE/set-ip-forward"
			echo 1 >/proc/sys/net/ipv4/ip_forward
		fi
	fi
}

# rule TABLE CHAIN … puts a rule first in its chain, once. The comment is how
# unprepare.sh knows it.
rule() {
	table=$1 chain=$2
	shift 2
	set -- -m comment --comment "keelson:$BRIDGE" "$@"
	iptables -w -t "$table" -C "$chain" "$@" 2>/dev/null || iptables -w -t "$table" -I "$chain" "$@"
}

# lay_walls fills in walls.nft and loads it. Rules of nodes that are there stay.
lay_walls() {
	outside=drop
	[ "$NAT" != yes ] || outside=accept
	addresses=$(for cidr in $ADDRESSES; do printf '%s,' "${cidr%/*}"; done)
	addresses=${addresses:-0.0.0.0,} # which nobody has
	networks=${NODE_NETWORKS:-$(echo "$networks" | paste -sd , -)}
	[ -n "$networks" ] || fail "KEELSON_NODE_NETWORKS must say where nodes are, for the bridge has no network"
	forbidden=169.254.0.0/16${FORBIDDEN:+, $FORBIDDEN}
	sed -e "s|@BRIDGE@|$BRIDGE|; s|@NETWORKS@|$networks|; s|@ADDRESSES@|${addresses%,}|; s|@OUTSIDE@|$outside|; s|@FORBIDDEN@|$forbidden|" \
		"$here/walls.nft" >"$STATE/etc/hooks/.walls.nft"
	mv "$STATE/etc/hooks/.walls.nft" "$STATE/etc/hooks/walls.nft"
	nft -f "$STATE/etc/hooks/walls.nft" || fail "the rules of walls.nft are not taken: see above"
}

install_hook() {
	# Renamed into place, because libvirtd may be calling it.
	install -m 755 "$here/lxc-hook" "$STATE/etc/hooks/.lxc"
	mv "$STATE/etc/hooks/.lxc" "$STATE/etc/hooks/lxc"
	printf 'STATE=/run/keelson\nIMAGES=%s\n' "$IMAGES" >"$STATE/etc/hooks/keelson.conf"
}

write_config() {
	if [ -n "$PKI" ]; then
		# Both sides show a certificate of Keelson's hosts' authority, and only
		# a conductor's is let in: not another host's.
		tls="listen_tls = 1
		ca_file = \"$PKI/cacert.pem\"
		cert_file = \"$PKI/servercert.pem\"
		key_file = \"$PKI/serverkey.pem\"
		tls_no_verify_certificate = 0
		tls_no_sanity_certificate = 0
		tls_allowed_dn_list = [\"CN=keelson-conductor\"]
		tls_priority = \"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2\"
		auth_tls = \"none\""
	else
		tls="listen_tls = 0"
	fi
	cat >"$STATE/etc/libvirtd.conf" <<-END
		$tls
		listen_tcp = 0
		unix_sock_rw_perms = "0700"
		unix_sock_ro_perms = "0700"
		auth_unix_rw = "none"
		auth_unix_ro = "none"
		log_outputs = "3:file:$STATE/log/libvirtd.log"
	END
	# Walls are user namespaces, cgroups and capabilities; the generic AppArmor
	# profile of libvirt-lxc would forbid Docker its mounts.
	echo 'security_driver = "none"' >"$STATE/etc/lxc.conf"
}

# make_namespace makes the mount namespace of libvirtd and pins it to a file,
# so that it outlives libvirtd.
#
# Mounts are shared within it: each node's controller gets a copy of it, and
# only when unmounting reaches those copies can a node's disk be set free while
# others run.
make_namespace() {
	mountpoint -q "$STATE/ns" || { mount --bind "$STATE/ns" "$STATE/ns" && mount --make-private "$STATE/ns"; }
	if ! mountpoint -q "$STATE/ns/mnt"; then
		mkdir -p /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
		: >"$STATE/ns/mnt"
		unshare --mount="$STATE/ns/mnt" --propagation slave sh -eu -c '
			mount --make-rshared /
			# Were /run/libvirt the mount point, whoever removes that directory on
			# the machine would take libvirtd its sockets away.
			mount -t tmpfs -o mode=755,size=1m,nosuid,nodev run /run
			mkdir /run/libvirt /run/keelson
			mount --bind "$1/run" /run/libvirt
			# Nodes pass through it to their roots, as users without rights, which
			# they might not have on the way to KEELSON_STATE.
			mount --bind "$1" /run/keelson
			mount --bind "$1/etc" /etc/libvirt
			mount --bind "$1/lib" /var/lib/libvirt
			mount --bind "$1/cache" /var/cache/libvirt
			mount --bind "$1/log" /var/log/libvirt
			# libvirt cannot work with v1 controllers and an empty v2 side by side.
			if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
		' sh "$STATE" || { umount "$STATE/ns/mnt"; fail "cannot make the mount namespace of libvirtd"; }
	fi
}

# ours tells whether the process is the host's libvirtd, and not one that was
# given its number after a reboot.
ours() {
	[ "$(readlink "/proc/$1/ns/mnt")" = "mnt:[$(stat --format %i "$STATE/ns/mnt")]" ] &&
		[ "$(basename "$(readlink "/proc/$1/exe")")" = libvirtd ]
}

# stop_old_libvirtd stops a libvirtd that was started with another
# configuration or other certificates, which it reads only then.
stop_old_libvirtd() {
	sum=$(cat "$STATE/etc/libvirtd.conf" ${PKI:+"$PKI"/*.pem} | sha256sum)
	pid=$(cat "$STATE/libvirtd.pid" 2>/dev/null || true)
	if [ -n "$pid" ] && [ "$(cat "$STATE/libvirtd.sum" 2>/dev/null)" != "$sum" ]; then
		tries=0
		while ours "$pid"; do
			[ $tries -gt 0 ] || kill "$pid"
			tries=$((tries + 1))
			[ $tries -le 200 ] || fail "libvirtd does not stop: process $pid"
			sleep 0.05
		done
	fi
	echo "$sum" >"$STATE/libvirtd.sum"
}

start_libvirtd() {
	if ! virsh -q -c "$URI" version >/dev/null 2>&1; then
		rm -f "$STATE/libvirtd.pid"
		# Nodes inherit the system calls that libvirtd has.
		"$here/confine" nsenter --mount="$STATE/ns/mnt" libvirtd --daemon ${PKI:+--listen} --config /etc/libvirt/libvirtd.conf --pid-file "$STATE/libvirtd.pid" ||
			fail "libvirtd does not start: see $STATE/log/libvirtd.log"
		tries=0
		until virsh -q -c "$URI" version >/dev/null 2>&1; do
			tries=$((tries + 1))
			[ $tries -le 200 ] || fail "libvirtd does not answer on $STATE/run/libvirt-sock: see $STATE/log/libvirtd.log"
			sleep 0.1
		done
	fi
}

# pool NAME DIRECTORY
pool() {
	virsh -q -c "$URI" pool-info "$1" >/dev/null 2>&1 || virsh -q -c "$URI" pool-define-as "$1" dir --target "$2" >/dev/null
	virsh -q -c "$URI" pool-autostart "$1" >/dev/null
	# A conductor that looks at the host may start it first.
	pool_runs "$1" || virsh -q -c "$URI" pool-start "$1" >/dev/null || pool_runs "$1"
}

pool_runs() {
	LC_ALL=C virsh -q -c "$URI" pool-info "$1" | grep -q '^State: *running'
}

check_machine
mount_storage
URI="lxc:///system?socket=$STATE/run/libvirt-sock"
make_directories
cat >"$STATE/host.env" <<END
KEELSON_HOST_URI='$URI'
KEELSON_HOST_BRIDGE='$BRIDGE'
KEELSON_HOST_CIDR='$CIDR'
KEELSON_HOST_FIREWALL='$FIREWALL'
END
raise_limits
load_firewall
make_bridge
lay_walls
fetch_images # before libvirtd answers, for then nodes may be made
install_hook
write_config
make_namespace
stop_old_libvirtd
start_libvirtd
pool keelson /run/keelson/nodes       # disks and files of the nodes
pool keelson-images "$IMAGES"         # which images are here
pool keelson-hooks /etc/libvirt/hooks # whether the hook is here
cat "$STATE/host.env"
