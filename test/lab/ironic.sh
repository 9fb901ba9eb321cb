#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# An Ironic of the lab's own with fake hardware: no authentication, no other
# OpenStack service. Machines are enrolled by the tests that want them.

. "$(dirname "$0")/lib.sh"
part=ironic
dir=$state/ironic
url=http://127.0.0.1:$(port ironic)

if ! [[ -f $dir/configured ]]; then
	private "$dir" ironic
	needs mariadb
	# The conductor's name is also the address at which the API calls it.
	# fake-hardware stands alone: with ipmi beside it the conductor wants a real
	# deploy interface and drops out, its port still open.
	as ironic tee "$dir/ironic.conf" >/dev/null <<-EOC
		[DEFAULT]
		auth_strategy = noauth
		host = 127.0.0.1
		my_ip = 127.0.0.1
		rpc_transport = json-rpc
		use_stderr = true
		state_path = $dir
		tempdir = $dir
		enabled_hardware_types = fake-hardware
		enabled_bios_interfaces = fake,no-bios
		enabled_boot_interfaces = fake
		enabled_console_interfaces = fake,no-console
		enabled_deploy_interfaces = fake
		enabled_inspect_interfaces = fake,no-inspect
		enabled_management_interfaces = fake
		enabled_network_interfaces = noop
		default_network_interface = noop
		enabled_power_interfaces = fake
		enabled_raid_interfaces = fake,no-raid
		enabled_rescue_interfaces = fake,no-rescue
		enabled_storage_interfaces = fake,noop
		enabled_vendor_interfaces = fake,no-vendor
		[database]
		connection = $(database ironic)
		[json_rpc]
		auth_strategy = noauth
		host_ip = 127.0.0.1
		port = $(port ironic-rpc)
		[dhcp]
		dhcp_provider = none
		[conductor]
		automated_clean = true
		api_url = $url
		[pxe]
		tftp_root = $dir/tftp
		tftp_master_path = $dir/tftp/master
		images_path = $dir/images
		instance_master_path = $dir/images/master
		[deploy]
		http_root = $dir/http
		[oslo_concurrency]
		lock_path = $dir/lock
	EOC
	as ironic tee "$dir/uwsgi.ini" >/dev/null <<-EOC
		[uwsgi]
		plugins = python3
		wsgi-file = /usr/bin/ironic-api-wsgi
		http-socket = 127.0.0.1:$(port ironic)
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
		pyargv = --config-file $dir/ironic.conf
	EOC
	made=$cache/ironic-$(dpkg-query -W -f '${Version}' ironic-common).sql
	if [[ -s $made ]]; then
		load ironic "$made"
	else
		as ironic ironic-dbsync --config-file "$dir/ironic.conf" upgrade >>"$state/log/ironic-conductor.log" 2>&1
		dump ironic "$made"
	fi
	touch "$dir/configured"
fi

needs mariadb
running ironic-conductor ||
	daemon ironic-conductor setpriv --reuid=ironic --regid=ironic --init-groups -- ironic-conductor --config-file "$dir/ironic.conf"
running ironic-api ||
	daemon ironic-api setpriv --reuid=ironic --regid=ironic --init-groups -- uwsgi --ini "$dir/uwsgi.ini"

has_driver() { curl --silent --fail --noproxy '*' --max-time 5 "$url/v1/drivers" | grep -q fake-hardware; }
await ironic-api 120 answers "$url/v1"
await ironic-conductor 120 has_driver

provide KEELSON_TEST_IRONIC "$url"
