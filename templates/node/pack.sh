#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Pack a node image that build.sh made, for hosts to fetch when they are
# prepared.
#
#   pack.sh IMAGE_DIR FILE [NAME]
#
# The end of FILE says how it is compressed: .tar, .tar.gz, .tar.xz or .tar.zst.
# NAME is the image, keelson-node if it is not given. Prints the line for the
# group [images] of keelson.conf, whose URL is yours to complete: put the file
# on any web server that hosts can reach.
set -eu

images=${1:?usage: pack.sh IMAGE_DIR FILE [NAME]}
file=${2:?usage: pack.sh IMAGE_DIR FILE [NAME]}
name=${3:-keelson-node}
tree=$(realpath "$images/$name")
[ -x "$tree/usr/sbin/keelson-init" ] || { echo "pack: $images has no node image $name: build.sh makes it" >&2; exit 1; }

# Names and times as they are, owners by number, and what setcap gave to ping.
# Beside the file at first: half an archive is never taken for one.
new=$(dirname "$file")/.new.$(basename "$file")
tar --create --file "$new" --auto-compress --directory "$tree" --numeric-owner --xattrs --xattrs-include='*' --sort=name .
mv "$new" "$file"
echo "archive = $name:$(sha256sum "$file" | cut -d ' ' -f 1):https://IMAGE-SERVER/$(basename "$file")"
