#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# User, virtual host and limits of Keelson in a RabbitMQ cluster; run it on one of
# its nodes. It may be run again. The password comes from standard input:
#
#	etc/rabbitmq/keelson.sh < /root/keelson-rabbitmq-password
#
# Keelson declares its queues by itself: quorum queues keelson.operations and
# keelson.operations.dead, so three nodes survive the loss of one. No ha-mode
# policy is needed, nor would one have an effect on them.

set -eu
vhost=${KEELSON_RABBITMQ_VHOST:-/keelson}
user=${KEELSON_RABBITMQ_USER:-keelson}
IFS= read -r password

rabbitmqctl -q list_vhosts name | grep -qxF "$vhost" || rabbitmqctl -q add_vhost "$vhost"
if rabbitmqctl -q list_users | cut -f 1 | grep -qxF "$user"; then
	printf '%s\n' "$password" | rabbitmqctl -q change_password "$user"
else
	printf '%s\n' "$password" | rabbitmqctl -q add_user "$user"
fi
# Its own queues, and the exchange and queues of notifications, which are named
# by [DEFAULT] control_exchange. Whoever listens to them has a user of its own.
rabbitmqctl -q set_permissions -p "$vhost" "$user" \
	'^(keelson\..*|magnum|notifications\..*)$' \
	'^(keelson\..*|magnum|notifications\..*|amq\.default)$' \
	'^(keelson\..*|magnum|notifications\..*)$'
# What nobody could use is looked at within a week, or not at all. (How many
# operations may wait is for [api] max_pending_operations to say.)
rabbitmqctl -q set_policy -p "$vhost" --apply-to queues --priority 10 keelson-dead \
	'^keelson\.operations\.dead$' '{"message-ttl": 604800000}'
# Notifications that nobody fetches do not fill the broker.
rabbitmqctl -q set_policy -p "$vhost" --apply-to queues --priority 10 keelson-notifications \
	'^notifications\.' '{"max-length": 100000, "overflow": "drop-head"}'
