#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Build the tree that all tenant nodes of a host share as their read-only root.
#
#   build.sh [-n] IMAGE_DIR [SUITE]
#
# SUITE is the release of Debian that the tree is made of, and with that the
# version of Docker: bookworm (20.10, the default), trixie (26.1).
#
# The tree goes to IMAGE_DIR/keelson-node-<digest of this recipe>; the link
# IMAGE_DIR/keelson-node names the newest one. Those of another suite than the
# default are called keelson-node-SUITE. A tree that is there already is
# kept, so the second run takes no time. Trees are never changed once built:
# running nodes have them as a layer, so remove an old one only when no node of
# the host was made from it. Prints the name of the tree on stdout; with -n it
# does nothing else.
#
# Environment:
#	KEELSON_AUTHZ   the program keelson-authz to put into the tree, which has to
#	                be linked statically; "none" for a tree without. By default it
#	                is made from the sources around this directory or, where there
#	                are none, taken from where it is installed.
#
# Needs root, debootstrap and the machine's own apt configuration (mirror and
# proxy are taken from there).
set -eu

DEFAULT_SUITE=bookworm
usage="usage: build.sh [-n] IMAGE_DIR [SUITE]"
only_name=
if [ "${1:-}" = -n ]; then
	only_name=yes
	shift
fi
images=${1:?"$usage"}
SUITE=${2:-$DEFAULT_SUITE}
case $SUITE in *[!a-z]*) echo "$usage" >&2; exit 2 ;; esac
NAME=keelson-node
[ "$SUITE" = $DEFAULT_SUITE ] || NAME=keelson-node-$SUITE
recipe=$(cd "$(dirname "$0")" && pwd)

say() { echo "$NAME: $*" >&2; }

# digest_of_recipe covers all that decides what is in the tree.
digest_of_recipe() {
	(
		cd "$recipe"
		echo "$SUITE $(dpkg --print-architecture)"
		find build.sh packages root -type f -print | LC_ALL=C sort | xargs sha256sum
		find root -type f -perm -u+x -print | LC_ALL=C sort
		if [ "$authz" != none ]; then sha256sum <"$authz"; fi
	) | sha256sum | cut -c1-12
}

# mirror_of [-security] prints the archive that this machine's apt uses for the
# suite or else, since one archive has them all, for another one of Debian.
mirror_of() {
	for suite in "$SUITE${1:-}" "bookworm${1:-}" "trixie${1:-}"; do
		apt-get indextargets --format '$(RELEASE) $(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
			awk -v suite="$suite" '($1 == suite || $2 == suite) && $3 == "main" { sub("/$", "", $4); print $4; exit }'
	done | head -n 1
}

# export_proxy hands apt's proxies on to debootstrap, which uses wget.
export_proxy() {
	eval "$(apt-config shell http Acquire::http::Proxy https Acquire::https::Proxy)"
	if [ -n "${http:-}" ] && [ "$http" != DIRECT ]; then export http_proxy="$http"; fi
	if [ -n "${https:-}" ] && [ "$https" != DIRECT ]; then export https_proxy="$https"; fi
}

# chroot_apt runs apt-get in the new tree, as quietly as errors allow.
chroot_apt() {
	DEBIAN_FRONTEND=noninteractive chroot "$tree" apt-get -qq -y \
		-o Acquire::http::Proxy="${http_proxy:-DIRECT}" -o Acquire::https::Proxy="${https_proxy:-DIRECT}" \
		-o Acquire::Retries=3 -o APT::Install-Recommends=false "$@"
}

# authz_program prints the path of keelson-authz, or "none".
authz_program() {
	if [ "${KEELSON_AUTHZ:-}" ]; then
		echo "$KEELSON_AUTHZ"
	elif [ -e "$recipe/../../cmd/keelson-authz" ] && command -v "${GO:-go}" >/dev/null; then
		# The same bytes wherever the sources lie.
		(cd "$recipe/../.." && CGO_ENABLED=0 "${GO:-go}" build -trimpath -buildvcs=false -ldflags '-s -w' -o "$made/keelson-authz" ./cmd/keelson-authz) >&2 &&
			echo "$made/keelson-authz"
	else
		PATH="$recipe/../../../../bin:$PATH" command -v keelson-authz
	fi
}

made=$(mktemp -d "${TMPDIR:-/tmp}/keelson-authz.XXXXXX")
trap 'rm -rf "$made"' EXIT
trap 'exit 1' HUP INT TERM
authz=$(authz_program) || {
	say "keelson-authz is not here: install it, name it in KEELSON_AUTHZ, or say KEELSON_AUTHZ=none for nodes that refuse without a reason"
	exit 1
}
target=$NAME-$(digest_of_recipe)
if [ $only_name ]; then
	echo "$target"
	exit
fi
mkdir -p "$images"
chmod 700 "$images" # the tree has setuid programs that are nobody's business on the host
if [ ! -d "$images/$target" ]; then
	[ "$(id -u)" = 0 ] || { say "must be run by root"; exit 1; }
	command -v debootstrap >/dev/null || { say "debootstrap is not installed: apt-get install debootstrap"; exit 1; }

	exec 9>"$images/.lock"
	flock 9 # one build at a time; the second finds the tree made
fi
if [ ! -d "$images/$target" ]; then
	export_proxy
	mirror=$(mirror_of)
	mirror=${mirror:-http://deb.debian.org/debian}
	rm -rf "$images"/.build.*
	work=$(mktemp -d "$images/.build.XXXXXX")
	trap 'rm -rf "$work" "$made"' EXIT
	tree=$work/root

	say "building $target from $mirror"
	export DPKG_FORCE=unsafe-io # a tree that a crash left behind is not used anyway
	include=$(awk -v suite="$SUITE" '$1 != "#" && ($2 == "" || $2 == suite) { print $1 }' "$recipe/packages" | paste -sd, -)
	mkdir -p "$images/.debs" # packages are fetched once, whatever changes in the recipe
	# What it mounts below the tree goes with it, however it ends.
	if ! unshare --mount debootstrap --variant=minbase --cache-dir="$(realpath "$images/.debs")" --include="$include" $SUITE "$tree" "$mirror" >"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		say "debootstrap failed; the mirror is $mirror"
		exit 1
	fi

	echo "deb $mirror $SUITE main" >"$tree/etc/apt/sources.list"
	security=$(mirror_of -security)
	if [ -n "$security" ]; then
		echo "deb $security $SUITE-security main" >>"$tree/etc/apt/sources.list"
		chroot_apt update >>"$work/log" 2>&1 && chroot_apt upgrade >>"$work/log" 2>&1 || {
			tail -n 20 "$work/log" >&2
			say "security updates could not be installed from $security"
			exit 1
		}
	fi

	cp -R "$recipe/root/." "$tree/"
	find "$tree/etc/keelson" "$tree/usr/sbin/keelson-init" -type f -exec chmod 755 {} +
	mkdir -p "$tree/etc/docker"
	if [ "$authz" != none ]; then
		install -m 755 "$authz" "$tree/usr/sbin/keelson-authz"
	fi
	# runsv keeps its pipes where a restart empties them.
	ln -s /run/runit/dockerd "$tree/etc/keelson/service/dockerd/supervise"
	ln -s /run/runit/authz "$tree/etc/keelson/service/authz/supervise"
	ln -s /run/runit/dockerd-log "$tree/etc/keelson/service/dockerd/log/supervise"

	# What each node gets of its own, and what nobody reads.
	rm -rf "$tree/etc/hostname" "$tree/etc/resolv.conf" "$tree/etc/machine-id" "$tree"/etc/ssh/ssh_host_* \
		"$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/*.log "$tree"/var/log/apt \
		"$tree"/usr/share/man/* "$tree"/usr/share/info/* "$tree"/usr/share/locale/* \
		"$tree"/run/* "$tree"/tmp/* "$tree"/dev/*
	find "$tree/usr/share/doc" -type f ! -name copyright -delete
	mkdir -p "$tree/var/lib/docker" "$tree/var/log/apt"

	mv "$tree" "$images/$target"
	say "built $target, $(du -sm "$images/$target" | cut -f1) MiB"
fi

if [ "$(readlink "$images/$NAME" || true)" != "$target" ]; then
	ln -sfn "$target" "$images/.$NAME.link"
	mv -T "$images/.$NAME.link" "$images/$NAME"
fi
echo "$target"
