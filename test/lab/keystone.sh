#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A Keystone of the lab's own: users, roles and a service catalogue such as a
# small cloud has. See keystone-seed for who is in it.

. "$(dirname "$0")/lib.sh"
part=keystone
dir=$state/keystone
url=http://127.0.0.1:$(port keystone)/v3
container_infra=${KEELSON_LAB_CONTAINER_INFRA:-http://127.0.0.1:$(port keelson)/v1}
baremetal=http://127.0.0.1:$(port ironic)

# A filled Keystone of an earlier lab: its tables, and its password in the first line.
made=$cache/keystone-$(cat "$0" "$here/keystone-seed" <(dpkg-query -W -f '${Version}' keystone) | sha256sum | cut -c 1-12).sql
[[ ! -s $made || -s $state/secrets/keystone ]] || head -n 1 "$made" | cut -d ' ' -f 2 >"$state/secrets/keystone"
password=$(secret keystone)

# keys DIR: two Fernet keys (0 is staged, 1 signs), as fernet_setup makes them
# but without its start-up time.
keys() {
	private "$1" keystone
	local n
	for n in 0 1; do
		head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' | as keystone tee "$1/$n" >/dev/null
		chmod 0600 "$1/$n"
	done
}

manage() { as keystone keystone-manage --config-file "$dir/keystone.conf" "$@" >>"$state/log/keystone.log" 2>&1; }

if ! [[ -f $dir/configured ]]; then
	private "$dir" keystone
	keys "$dir/fernet"
	keys "$dir/credential"
	needs mariadb
	as keystone tee "$dir/keystone.conf" >/dev/null <<-EOC
		[DEFAULT]
		use_stderr = true
		[database]
		connection = $(database keystone)
		[cache]
		enabled = true
		backend = dogpile.cache.memcached
		memcache_servers = 127.0.0.1:$(port memcached)
		[token]
		provider = fernet
		expiration = 7200
		[fernet_tokens]
		key_repository = $dir/fernet
		[fernet_receipts]
		key_repository = $dir/fernet
		[credential]
		key_repository = $dir/credential
		[identity]
		# The least that bcrypt allows: tests log in often, and their passwords guard nothing.
		password_hash_rounds = 4
	EOC
	as keystone tee "$dir/uwsgi.ini" >/dev/null <<-EOC
		[uwsgi]
		plugins = python3
		wsgi-file = /usr/bin/keystone-wsgi-public
		http-socket = 127.0.0.1:$(port keystone)
		# uWSGI ends kept-alive connections unannounced, and answers before it has
		# read all: clients would see resets.
		add-header = Connection: close
		post-buffering = 65536
		socket-timeout = 60
		master = true
		need-app = true
		lazy-apps = true
		enable-threads = true
		die-on-term = true
		no-orphans = true
		threads = 8
		buffer-size = 65535
		chdir = $dir
		env = OS_KEYSTONE_CONFIG_FILES=$dir/keystone.conf
	EOC
fi

running memcached || daemon memcached memcached -u memcache -U 0 -l 127.0.0.1 -p "$(port memcached)" -m 64
await memcached 10 listening "$(port memcached)"

if ! [[ -f $dir/configured ]]; then
	if [[ -s $made ]]; then
		load keystone "$made"
		sql <<-SQL
			UPDATE keystone.endpoint JOIN keystone.service ON service.id = endpoint.service_id
			SET url = CASE type WHEN 'identity' THEN '$url' WHEN 'baremetal' THEN '$baremetal' ELSE '$container_infra' END;
		SQL
		touch "$dir/configured"
	else
		manage db_sync
		manage bootstrap --bootstrap-password "$password" --bootstrap-region-id RegionOne \
			--bootstrap-public-url "$url" --bootstrap-internal-url "$url" --bootstrap-admin-url "$url"
	fi
fi

needs mariadb
running keystone || daemon keystone setpriv --reuid=keystone --regid=keystone --init-groups -- uwsgi --ini "$dir/uwsgi.ini"
await keystone 120 answers "$url"

if ! [[ -f $dir/configured ]]; then
	KEYSTONE_PASSWORD=$password /usr/bin/python3 "$here/keystone-seed" "$url" \
		container-infra "$container_infra" baremetal "$baremetal"
	dump keystone "$made" "$password"
	touch "$dir/configured"
fi

# openrc FILE USER PROJECT: what a person or the openstack client sources.
openrc() {
	(
		umask 077
		cat >"$1" <<-EOC
			export OS_AUTH_URL=$url OS_IDENTITY_API_VERSION=3 OS_REGION_NAME=RegionOne
			export OS_USERNAME=$2 OS_PASSWORD=$password OS_USER_DOMAIN_NAME=Default
			export OS_PROJECT_NAME=$3 OS_PROJECT_DOMAIN_NAME=Default
		EOC
	)
}
openrc "$state/openrc-admin" admin admin
openrc "$state/openrc-demo" demo demo
openrc "$state/openrc-reader" reader demo
openrc "$state/openrc-alt_demo" alt_demo alt_demo

provide KEELSON_TEST_KEYSTONE "$url"
provide KEELSON_TEST_KEYSTONE_PASSWORD "$password"
provide KEELSON_TEST_ENDPOINT "$container_infra"
