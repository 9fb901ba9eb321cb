# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What all parts of the lab share. Sourced, never run.
#
# The state directory holds everything of one lab: data, logs, ports, process
# ids. Two labs with two state directories do not meet.

set -euo pipefail

# The lab is started from shells of all kinds: one locale for what is parsed
# here, the distribution's own programs before any private Python.
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

# shellcheck disable=SC2034 # for those who source this
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
state=${KEELSON_LAB_STATE:-${KEELSON_TEST_STATE:-/tmp/keelson-lab}}
cache=/var/cache/keelson/lab

# shellcheck disable=SC2034
all_parts="mariadb rabbitmq keystone ironic libvirt"

say() { printf '%s\n' "$*" >&2; }

fail() {
	say "${program:-lab}: $*"
	exit 1
}

# as USER COMMAND...: run as a system user, with nothing of root left.
as() {
	local user=$1
	shift
	setpriv --reuid="$user" --regid="$user" --init-groups -- "$@"
}

# private DIR USER: a directory that only this user enters.
private() { install -d -m 0700 -o "$2" -g "$2" "$1"; }

# daemon NAME COMMAND...: start COMMAND in a session of its own, log to
# log/NAME.log and remember its process id.
daemon() {
	local name=$1
	shift
	setsid "$@" >>"$state/log/$name.log" 2>&1 </dev/null &
	adopt "$name" $!
}

# adopt NAME PID: remember a daemon. The start time beside the number tells it
# from a later process that is given the same number.
adopt() { printf '%s %s\n' "$2" "$(started_at "$2")" >"$state/pids/$1"; }

# started_at PID: the kernel's start time of a process, empty if it is gone.
started_at() {
	local stat
	{ stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
	stat=${stat##*) }
	# shellcheck disable=SC2086 # split into fields on purpose
	set -- $stat
	[[ $1 == Z ]] || printf '%s' "${20}"
}

# running NAME: whether the daemon that we started under this name still runs.
running() {
	local pid began
	[[ -f $state/pids/$1 ]] || return 1
	read -r pid began <"$state/pids/$1" || return 1
	[[ -n $began && $(started_at "$pid") == "$began" ]]
}

# group_runs PGID: whether any process of the group is still at work.
group_runs() {
	ps -eo pgid=,stat= | awk -v g="$1" '$1 == g && $2 !~ /^Z/ { n++ } END { exit !n }'
}

# stop_group PGID SIGNAL: end a process group; after ten seconds it is killed.
stop_group() {
	local i
	kill "-$2" -- "-$1" 2>/dev/null || return 0
	for ((i = 0; i < 100; i++)); do
		group_runs "$1" || return 0
		sleep 0.1
	done
	kill -KILL -- "-$1" 2>/dev/null || true
}

# stop NAME [SIGNAL]: end a daemon (SIGNAL is TERM or KILL), and its children if
# it leads a group. Twice is harmless.
stop() {
	local pid i
	if running "$1"; then
		read -r pid _ <"$state/pids/$1"
		if group_runs "$pid"; then
			stop_group "$pid" "${2:-TERM}"
		else
			kill "-${2:-TERM}" "$pid" 2>/dev/null || true
			for ((i = 0; i < 100; i++)); do
				running "$1" || break
				sleep 0.1
			done
			! running "$1" || kill -KILL "$pid" 2>/dev/null || true
		fi
	fi
	rm -f "$state/pids/$1"
}

# await NAME SECONDS COMMAND...: until COMMAND succeeds; the end of the daemon
# NAME or of the time is a failure.
await() {
	local name=$1 until=$((SECONDS + $2))
	shift 2
	until "$@" >/dev/null 2>&1; do
		running "$name" || fail "$name has stopped, see $state/log/$name.log"
		((SECONDS < until)) || fail "$name is not ready: '$*' still fails, see $state/log/$name.log"
		sleep 0.1
	done
}

# needs PART: wait for a part that another process is starting.
needs() {
	local until=$((SECONDS + 120))
	until [[ -f $state/ready/$1 ]]; do
		((SECONDS < until)) || fail "${0##*/} waited two minutes for $1"
		sleep 0.1
	done
}

# listening PORT, answers URL: what readiness is made of.
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
answers() { curl --silent --fail --output /dev/null --noproxy '*' --max-time 5 "$1"; }

# port NAME: the loopback port of that name, the same for the life of the lab.
port() { cat "$state/ports/$1"; }

# reserve NAME...: choose a free port for each name. The range is below the one
# the kernel takes for outgoing connections.
reserve() {
	local name p
	for name in "$@"; do
		[[ -s $state/ports/$name ]] && continue
		while :; do
			p=$((15000 + RANDOM % 15000))
			listening $p || grep -qsx $p "$state"/ports/* || break
		done
		echo $p >"$state/ports/$name"
	done
}

# provide NAME VALUE: tell tests about it, through lab.env.
# shellcheck disable=SC2154 # part is set by whoever sources this
provide() { printf 'export %s=%q\n' "$1" "$2" >>"$state/env/$part.new"; }

# secret NAME: a password of this lab, made at first use.
secret() {
	[[ -s $state/secrets/$1 ]] || (umask 077 && head -c 12 /dev/urandom | base64 | tr '+/' 'ab' >"$state/secrets/$1")
	cat "$state/secrets/$1"
}

# sql: run the statements of standard input as the database's root.
sql() { mariadb --no-defaults --socket="$state/mariadb/sock"; }

# database NAME: an empty database with a user of the same name, for services
# that run under a system user of their own. Prints its SQLAlchemy URL.
database() {
	local password
	password=$(secret "$1-database")
	sql <<-SQL
		CREATE DATABASE IF NOT EXISTS \`$1\` CHARACTER SET utf8mb3;
		CREATE USER IF NOT EXISTS '$1'@'localhost' IDENTIFIED BY '$password';
		GRANT ALL ON \`$1\`.* TO '$1'@'localhost';
	SQL
	printf 'mysql+pymysql://%s:%s@localhost/%s?unix_socket=%s&charset=utf8' "$1" "$password" "$1" "$state/mariadb/sock"
}

# dump DATABASE FILE [NOTE], load DATABASE FILE: tables that take seconds to make
# are made once per machine and copied from then on. The note is the first line
# of the file.
dump() {
	install -d -m 0700 "$cache"
	{
		echo "-- ${3:-$1}"
		mariadb-dump --no-defaults --socket="$state/mariadb/sock" "$1"
	} | install -m 0600 /dev/stdin "$2.$$"
	mv "$2.$$" "$2"
}
load() { { echo "USE \`$1\`;" && cat "$2"; } | sql; }

# owned: the state directory is there and a lab made it.
owned() { [[ -O $state && ! -L $state && -f $state/.keelson-lab ]]; }
