#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A MariaDB of the lab's own: Unix socket only, root by socket.

. "$(dirname "$0")/lib.sh"
part=mariadb
dir=$state/mariadb

if ! [[ -d $dir/data/mysql ]]; then
	install -d -m 0755 -o mysql -g mysql "$dir"
	rm -rf "$dir/data"
	# Durability costs time and buys nothing here: the data lives as long as the lab.
	cat >"$dir/my.cnf" <<-EOC
		[mysqld]
		datadir = $dir/data
		socket = $dir/sock
		pid-file = $dir/pid
		tmpdir = $dir
		user = mysql
		skip-networking
		skip-log-bin
		character-set-server = utf8mb4
		max_connections = 500
		innodb_buffer_pool_size = 64M
		innodb_log_file_size = 16M
		innodb_flush_log_at_trx_commit = 0
		innodb_doublewrite = 0
		innodb_use_native_aio = 0
	EOC
	mariadb-install-db --defaults-file="$dir/my.cnf" --auth-root-authentication-method=socket \
		--skip-test-db --skip-name-resolve >>"$state/log/mariadb.log" 2>&1
fi

running mariadb || daemon mariadb mariadbd --defaults-file="$dir/my.cnf"
await mariadb 120 mariadb-admin --no-defaults --socket="$dir/sock" ping

provide KEELSON_TEST_MARIADB "root@unix($dir/sock)/"
