// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMySQLConnections(t *testing.T) {
	for _, c := range []struct{ connection, user, password, network, address, database string }{
		{"mysql+pymysql://k:secret@db/keelson", "k", "secret", "tcp", "db:3306", "keelson"},
		{"mysql+pymysql://k:secret@db:3307/keelson?charset=utf8", "k", "secret", "tcp", "db:3307", "keelson"},
		{"mysql://k:p%40ss%2Fw%25rd@[2001:db8::1]:3306/keelson", "k", "p@ss/w%rd", "tcp", "[2001:db8::1]:3306", "keelson"},
		{"mysql+pymysql://k:a#b;c?d%zz/e@db/keelson", "k", "a#b;c?d%zz/e", "tcp", "db:3306", "keelson"},
		{"mysql+pymysql://root@localhost/k?unix_socket=/run/my.sock", "root", "", "unix", "/run/my.sock", "k"},
		{"mysql+pymysql:///k?unix_socket=/run/my.sock", "", "", "unix", "/run/my.sock", "k"},
		{"mariadb+mysqldb://k:s@:3310/k", "k", "s", "tcp", "localhost:3310", "k"},
	} {
		src, err := parseConnection(c.connection)
		if err != nil {
			t.Errorf("%s: %v", c.connection, err)
			continue
		}
		got := src.mysql
		if got.User != c.user || got.Passwd != c.password || got.Net != c.network || got.Addr != c.address || got.DBName != c.database {
			t.Errorf("%s: got %q %q %q %q %q", c.connection, got.User, got.Passwd, got.Net, got.Addr, got.DBName)
		}
		if !got.ParseTime || got.Loc != time.UTC || !got.ClientFoundRows {
			t.Errorf("%s: times or counts would be wrong", c.connection)
		}
	}
}

func TestSQLiteConnections(t *testing.T) {
	for connection, want := range map[string]string{
		"sqlite:////var/lib/keelson/k.db": "file:/var/lib/keelson/k.db?",
		"sqlite:///k.db":                  "file:k.db?",
		"sqlite:////odd%20name?x=1":       "file:/odd%2520name?", // SQLAlchemy takes the path as it is
		"sqlite://":                       "file::memory:?",
		"sqlite:///:memory:":              "file::memory:?",
	} {
		src, err := parseConnection(connection)
		if err != nil {
			t.Errorf("%s: %v", connection, err)
		} else if !strings.HasPrefix(src.sqlite, want) {
			t.Errorf("%s: got %s", connection, src.sqlite)
		}
	}
}

func TestConnectionOptions(t *testing.T) {
	src, err := parseConnection("mysql+pymysql://k:s@db/k?connect_timeout=2.5&read_timeout=3&write_timeout=4&ssl_verify_cert=false")
	if err != nil {
		t.Fatal(err)
	}
	if c := src.mysql; c.Timeout != 2500*time.Millisecond || c.ReadTimeout != 3*time.Second || c.WriteTimeout != 4*time.Second {
		t.Errorf("timeouts %v %v %v", c.Timeout, c.ReadTimeout, c.WriteTimeout)
	}
	if src.mysql.TLS == nil || !src.mysql.TLS.InsecureSkipVerify {
		t.Error("ssl_verify_cert=false does not ask for TLS without a check")
	}
}

func TestBadConnectionsAreRefusedWithoutTheirPassword(t *testing.T) {
	noCert := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, connection := range []string{
		"",
		"keelson.db",
		"k:hunter2@db/keelson",
		"postgresql://k:hunter2@db/keelson",
		"mysql+pymysql://k:hunter2@db",
		"mysql+pymysql://k:hunter2@db:port/keelson",
		"mysql+pymysql://k:hunter2@db:70000/keelson",
		"mysql+pymysql://k:hunter2@db/keelson?no_such_option=1",
		"mysql+pymysql://k:hunter2@db/keelson?connect_timeout=soon",
		"mysql+pymysql://k:hunter2@db/keelson?ssl_ca=" + noCert,
		"mysql+pymysql://k:hunter2@db/keelson?ssl_ca=/no/such/file",
		"mysql+pymysql://k:hunter2@db/keelson?ssl_cert=/no/such/file",
		"mysql+pymysql://k:hunter2@db/keelson?%zz",
		"sqlite://k:hunter2@db/file",
	} {
		_, err := parseConnection(connection)
		if err == nil {
			t.Errorf("%s is taken", connection)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func FuzzParseConnection(f *testing.F) {
	f.Add("mysql+pymysql://user:pa%40ss@[::1]:3306/db?charset=utf8&unix_socket=/s")
	f.Add("sqlite:////tmp/x.db")
	f.Add("sqlite://")
	f.Fuzz(func(t *testing.T, connection string) {
		if strings.Contains(connection, "ssl_") {
			t.Skip("reads files")
		}
		src, err := parseConnection(connection)
		if err == nil && (src.mysql == nil) == (src.sqlite == "") {
			t.Errorf("%q is of no database, or of two", connection)
		}
	})
}
