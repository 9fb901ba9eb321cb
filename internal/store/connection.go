// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	_ "github.com/glebarez/go-sqlite" // registers the driver "sqlite"
	"github.com/go-sql-driver/mysql"
)

// source is a connection string taken apart.
type source struct {
	sqlite string        // DSN of the SQLite driver, empty for MySQL
	memory bool          // SQLite in memory: one connection, or each has a database of its own
	mysql  *mysql.Config // nil for SQLite
}

// The parts of an SQLAlchemy URL, cut as SQLAlchemy does: a password may hold
// anything but "@", escaped or not.
var sqlalchemyURL = regexp.MustCompile(`^([\w+]+)://` +
	`(?:([^:/@]*)(?::([^@]*))?@)?` +
	`(?:(?:\[([^/?\]]+)\]|([^/:?]+))?(?::([^/?]*))?)?` +
	`(?:/([^?]*))?` +
	`(?:\?(.*))?$`)

// parseConnection reads an SQLAlchemy style database URL. Its errors never
// hold the URL, which has a password in it.
func parseConnection(connection string) (source, error) {
	m := sqlalchemyURL.FindStringSubmatch(connection)
	if m == nil {
		return source{}, errors.New("the database connection is no URL like mysql+pymysql://user:password@host/database or sqlite:////path/file.db")
	}
	scheme, _, _ := strings.Cut(m[1], "+")
	query, err := url.ParseQuery(m[8])
	if err != nil {
		return source{}, errors.New("the database connection's options (after the question mark) cannot be read")
	}
	switch scheme {
	case "sqlite":
		if m[2] != "" || m[3] != "" || m[4] != "" || m[5] != "" || m[6] != "" {
			return source{}, errors.New("an SQLite connection has no host: write sqlite:////path/file.db with four slashes")
		}
		return sqliteSource(m[7]), nil
	case "mysql", "mariadb":
		cfg, err := mysqlConfig(m, query)
		return source{mysql: cfg}, err
	default:
		return source{}, fmt.Errorf("database %q is not supported: use mysql+pymysql:// or sqlite://", m[1])
	}
}

func sqliteSource(file string) source {
	memory := file == "" || file == ":memory:"
	if memory {
		file = ":memory:"
	}
	// The path goes into a URI: keep what has a meaning there out of it.
	path := (&url.URL{Path: file}).EscapedPath()
	return source{
		memory: memory,
		sqlite: "file:" + path + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate",
	}
}

func mysqlConfig(m []string, query url.Values) (*mysql.Config, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = unquote(m[2]), unquote(m[3])
	cfg.DBName = unquote(m[7])
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort("localhost", "3306")
	host, port := m[4]+m[5], m[6]
	if host != "" || port != "" {
		if host == "" {
			host = "localhost"
		}
		if port == "" {
			port = "3306"
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("the database connection's port is not a number from 1 to 65535")
		}
		cfg.Addr = net.JoinHostPort(host, port)
	}
	if cfg.DBName == "" {
		return nil, errors.New("the database connection names no database")
	}
	cfg.ParseTime, cfg.Loc = true, time.UTC
	cfg.Collation = "utf8mb4_bin"
	cfg.ClientFoundRows = true   // rows affected = rows that matched, also when nothing changed
	cfg.InterpolateParams = true // one round trip instead of three
	cfg.Timeout = 10 * time.Second

	var secure tls.Config
	var useTLS bool
	for key := range query {
		value := query.Get(key)
		var err error
		switch key {
		case "charset", "use_unicode", "autocommit", "binary_prefix", "program_name":
			// We always speak utf8mb4; the others mean nothing here.
		case "unix_socket":
			cfg.Net, cfg.Addr = "unix", value
		case "connect_timeout":
			cfg.Timeout, err = seconds(value)
		case "read_timeout":
			cfg.ReadTimeout, err = seconds(value)
		case "write_timeout":
			cfg.WriteTimeout, err = seconds(value)
		case "ssl_ca":
			useTLS = true
			var pem []byte
			if pem, err = os.ReadFile(filepath.Clean(value)); err == nil {
				secure.RootCAs = x509.NewCertPool()
				if !secure.RootCAs.AppendCertsFromPEM(pem) {
					err = errors.New("no certificate in the file")
				}
			}
		case "ssl_cert":
			useTLS = true
			var pair tls.Certificate
			pair, err = tls.LoadX509KeyPair(value, query.Get("ssl_key"))
			secure.Certificates = []tls.Certificate{pair}
		case "ssl_key":
			useTLS = true // read with ssl_cert
		case "ssl_verify_cert", "ssl_verify_identity":
			useTLS = true
			secure.InsecureSkipVerify = value == "false" || value == "0"
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return nil, fmt.Errorf("database connection option %s: %w", key, err)
		}
	}
	if useTLS {
		secure.ServerName = host
		cfg.TLS = &secure
	}
	return cfg, nil
}

// unquote undoes percent escapes; like SQLAlchemy it leaves alone what is none.
func unquote(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

func seconds(s string) (time.Duration, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || n > 86400 {
		return 0, errors.New("not a number of seconds")
	}
	return time.Duration(n * float64(time.Second)), nil
}

// open makes the connection pool; it does not connect yet.
func (src source) open(maxOpen int, logger *slog.Logger) (*sql.DB, error) {
	var pool *sql.DB
	if src.mysql != nil {
		src.mysql.Logger = driverLog{logger}
		connector, err := mysql.NewConnector(src.mysql)
		if err != nil {
			return nil, errors.New("the database connection's settings do not fit together")
		}
		pool = sql.OpenDB(session{connector})
		pool.SetConnMaxLifetime(30 * time.Minute)
		pool.SetConnMaxIdleTime(5 * time.Minute)
	} else {
		var err error
		if pool, err = sql.Open("sqlite", src.sqlite); err != nil {
			return nil, err
		}
		if src.memory {
			maxOpen = 1
		}
	}
	pool.SetMaxOpenConns(maxOpen)
	pool.SetMaxIdleConns(maxOpen)
	return pool, nil
}

// session gives every new MySQL connection the settings that the store counts
// on. READ COMMITTED, because a claim must see what was committed while it
// waited for a row; it also takes fewer locks.
type session struct{ driver.Connector }

// A transaction that says nothing for that long is ended by MariaDB: a process
// that was paused in the middle of one, or cut off, must not hold its locks
// against all others. Locks are waited for a little longer.
const (
	idleTransaction = 5 // seconds
	lockWait        = 10
)

// unknownVariable is what MySQL says of a setting that only MariaDB has.
const unknownVariable = 1193

// Connect connects and sets the session up.
func (s session) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
		"SET SESSION sql_mode = 'TRADITIONAL'",
		fmt.Sprint("SET SESSION innodb_lock_wait_timeout = ", lockWait),
		fmt.Sprint("SET SESSION idle_transaction_timeout = ", idleTransaction),
	} {
		_, err := conn.(driver.ExecerContext).ExecContext(ctx, statement, nil)
		if my, ok := errors.AsType[*mysql.MySQLError](err); ok && my.Number == unknownVariable {
			continue
		}
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// driverLog hands what the MySQL driver has to say to the log.
type driverLog struct{ *slog.Logger }

// Print implements mysql.Logger.
func (l driverLog) Print(v ...any) { l.Warn("database connection: " + fmt.Sprint(v...)) }

// OpenForeign opens a database of another service, on MariaDB or MySQL, from a
// connection as [Open] takes it. It does not connect yet.
func OpenForeign(connection string, logger *slog.Logger) (*sql.DB, error) {
	src, err := parseConnection(connection)
	if err != nil {
		return nil, err
	}
	if src.mysql == nil {
		return nil, errors.New("it must be on MariaDB or MySQL")
	}
	return src.open(2, logger)
}
