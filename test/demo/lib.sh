# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the demo's commands share. Sourced, never run; top is the checkout.

KEELSON_LAB_STATE=${KEELSON_DEMO_STATE:-/var/lib/keelson-demo}
[[ $EUID == 0 ]] || KEELSON_LAB_STATE=${KEELSON_DEMO_STATE:-$HOME/.local/state/keelson-demo}
# shellcheck source=test/lab/lib.sh
. "$top/test/lab/lib.sh"

bridge=${KEELSON_DEMO_BRIDGE:-keelson0}
cidr=${KEELSON_DEMO_CIDR:-10.77.0.1/24}
api=http://127.0.0.1:9511
keystone=http://127.0.0.1:5000

began=$EPOCHREALTIME
elapsed() { awk -v a="${1:-$began}" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

step() { say "$(printf '%6s s  %s' "$(elapsed)" "$*")"; }

# show COMMAND...: run it as the reader would, and show what it prints.
show() {
	say ""
	say "\$ $*"
	"$@" >&2
}

# host_up: make this machine a host that carries nodes.
host_up() {
	export KEELSON_STATE=$state/host KEELSON_BRIDGE=$bridge KEELSON_BRIDGE_CIDR=$cidr
	"$top/templates/host/prepare.sh" >"$state/log/host.log" 2>&1 || {
		tail -n 20 "$state/log/host.log" >&2
		fail "this machine could not be made a host"
	}
	# shellcheck disable=SC1091
	. "$state/host/host.env"
	# shellcheck disable=SC2153
	libvirt_uri=$KEELSON_HOST_URI
}

# configure: the configuration of keelsond, and a file with OS_* variables for
# each user.
configure() {
	local network prefix gateway memory disk user
	gateway=${cidr%/*}
	prefix=${gateway%.*}
	network=$prefix.0/${cidr#*/}
	memory=$(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
	disk=$(df --output=avail -BG "$state" | tail -n 1 | tr -dc 0-9)
	(
		umask 077
		cat >"$state/keelson.conf" <<-CONF
			[DEFAULT]
			state_path = $state
			transport_url = memory://

			[database]
			connection = sqlite:///$state/keelson.sqlite

			[identity]
			enabled = true
			admin_password = $(secret admin)
			demo_password = $(secret demo)

			[ironic]
			builtin = true
			builtin_node = this-machine:$(nproc):$memory:$disk:$libvirt_uri
			image = file:///dev/null
			poll_interval = 0.1

			[hosts]
			cpu_allocation_ratio = 8
			disk_allocation_ratio = 10

			[network]
			network = public:$network:$gateway:$prefix.10-$prefix.250
			default_network = public
			bridge = $bridge

			[drivers]
			enabled = $1
		CONF
		for user in admin demo; do
			cat >"$state/openrc-$user" <<-RC
				export OS_AUTH_URL=$keystone/v3 OS_IDENTITY_API_VERSION=3
				export OS_USERNAME=$user OS_PASSWORD=$(secret $user) OS_PROJECT_NAME=$user
				export OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default OS_REGION_NAME=RegionOne
			RC
		done
	)
}

# token: a token of the user demo.
token() {
	local body
	body='{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "domain": {"name": "Default"}, "password": "'$(secret demo)'"}}},
		"scope": {"project": {"name": "demo", "domain": {"name": "Default"}}}}}'
	curl --silent --show-error --fail --noproxy '*' --output /dev/null --dump-header - --header 'Content-Type: application/json' \
		--data @- "$keystone/v3/auth/tokens" <<<"$body" | tr -d '\r' | awk 'tolower($1) == "x-subject-token:" { print $2 }'
}

# call METHOD PATH [BODY]: a call of the container-infra API as the user demo.
call() {
	local method=$1 path=$2
	[[ -n ${user_token:-} ]] || user_token=$(token)
	curl --silent --show-error --noproxy '*' --request "$method" \
		--header @<(echo "X-Auth-Token: $user_token") --header 'OpenStack-API-Version: container-infra latest' \
		${3:+--header 'Content-Type: application/json' --data "$3"} "$api$path"
}

# field NAME: a field of the JSON object on standard input.
field() { sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p' | head -n 1; }

# wait_for_cluster NAME: until the cluster is complete.
wait_for_cluster() {
	local until=$((SECONDS + 120)) cluster status=
	while :; do
		cluster=$(call GET "/v1/clusters/$1")
		status=$(field status <<<"$cluster")
		case $status in
		*_COMPLETE) return ;;
		*_FAILED) fail "cluster $1 is $status: $(field status_reason <<<"$cluster")" ;;
		esac
		((SECONDS < until)) || fail "cluster $1 is still ${status:-not there} after two minutes, see $state/log/keelsond.log"
		sleep 0.1
	done
}

# wait_for_service NAME REPLICAS: until all tasks of a Swarm service run.
wait_for_service() {
	local until=$((SECONDS + 60))
	until [[ $(docker service ls --filter "name=$1" --format '{{.Replicas}}') == "$2/$2"* ]]; do
		((SECONDS < until)) || fail "service $1 does not run: $(docker service ps --no-trunc "$1")"
		sleep 0.1
	done
}
