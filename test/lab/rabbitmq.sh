#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A RabbitMQ of the lab's own, with its own Erlang port mapper: the one that
# Erlang would start by itself listens on every address and is left behind.

. "$(dirname "$0")/lib.sh"
part=rabbitmq
dir=$state/rabbitmq
password=$(secret rabbitmq)

if ! [[ -f $dir/rabbitmq.conf ]]; then
	private "$dir" rabbitmq
	as rabbitmq tee "$dir/rabbitmq.conf" >/dev/null <<-EOC
		listeners.tcp.1 = 127.0.0.1:$(port rabbitmq)
		default_user = keelson
		default_pass = $password
		log.console = true
		log.console.level = info
		log.file = false
		disk_free_limit.absolute = 50MB
	EOC
	head -c 15 /dev/urandom | base64 | as rabbitmq tee "$dir/.erlang.cookie" >/dev/null
	chmod 0400 "$dir/.erlang.cookie"
	as rabbitmq touch "$dir/enabled_plugins"
fi

erlang=(env -i PATH="$PATH" LANG=C.UTF-8 HOME="$dir" ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$(port epmd)")
broker=(
	"${erlang[@]}" RUNNING_UNDER_SYSTEMD=1 # no shell around it: the process that we start is the broker
	RABBITMQ_NODENAME=keelson@localhost RABBITMQ_DIST_PORT="$(port rabbitmq-dist)"
	RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf"
	RABBITMQ_MNESIA_BASE="$dir/mnesia" RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_LOGS=-
	RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" RABBITMQ_PLUGINS_EXPAND_DIR="$dir/plugins"
	RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
	/usr/lib/rabbitmq/bin/rabbitmq-server
)

cd "$dir" # Erlang insists on a directory that it can read
running epmd || daemon epmd setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups -- "${erlang[@]}" epmd -address 127.0.0.1
await epmd 20 listening "$(port epmd)"
running rabbitmq || daemon rabbitmq setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups -- "${broker[@]}"
await rabbitmq 120 listening "$(port rabbitmq)"

provide KEELSON_TEST_RABBITMQ "rabbit://keelson:$password@127.0.0.1:$(port rabbitmq)/"
