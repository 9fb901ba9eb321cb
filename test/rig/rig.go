// SPDX-License-Identifier: Apache-2.0

// Package rig runs a whole Keelson of several keelsond processes on simulated
// hosts, with the real MariaDB and RabbitMQ of the lab behind networks that can
// go wrong: for what only shows with many processes (test/chaos, test/bench).
package rig

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/keelson/keelson/internal/badnet"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/identity"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

// Options of a rig.
type Options struct {
	Dir        string // of all its files
	Keelsond   string // the program
	MariaDB    string // Go DSN without a database: testenv.MariaDB
	RabbitMQ   string // testenv.RabbitMQ
	APIs       int
	Conductors int
	Projects   int
	Hosts      int // that are there
	Machines   int // that Ironic has
	VCPUs      int // of each, with MemoryMiB and DiskGiB
	MemoryMiB  int
	DiskGiB    int
	Config     string // further groups of keelson.conf; [conductor] and [api] take options
	Conductor  string // lines of [conductor]
	API        string // lines of [api]
	Quota      int
	Direct     bool // no bad network stands between the processes and the services
}

// Rig is one such Keelson. Close it.
type Rig struct {
	Options
	Store     *store.Store // past all faults
	SQL       *sql.DB      // the same, without the store's rules
	DSN       string       // of the same
	Database  *badnet.Proxy
	Broker    *badnet.Proxy
	Keystone  *badnet.Proxy
	Ironic    *ironictest.Server
	IronicURL string
	Tokens    []string // of a member of each project
	Processes []*Process

	closers []func()
}

// New makes the database, hosts and services; no process runs yet.
func New(ctx context.Context, o Options) (_ *Rig, err error) {
	r := &Rig{Options: o}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := os.MkdirAll(filepath.Join(o.Dir, "hosts"), 0o700); err != nil {
		return nil, err
	}
	if _, err := ca.LoadOrCreateKeyFile(filepath.Join(o.Dir, "master.key")); err != nil {
		return nil, err
	}
	through, err := r.database(ctx)
	if err != nil {
		return nil, err
	}
	broker, err := r.broker()
	if err != nil {
		return nil, err
	}
	keystone, err := r.identity()
	if err != nil {
		return nil, err
	}
	if err := r.machines(ctx); err != nil {
		return nil, err
	}
	for i := range o.APIs {
		if err := r.add("api", i, through, broker, keystone); err != nil {
			return nil, err
		}
	}
	for i := range o.Conductors {
		if err := r.add("conductor", i, through, broker, keystone); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Rig) onClose(f func()) { r.closers = append(r.closers, f) }

// Close ends all processes and removes the database. The directory stays.
func (r *Rig) Close() {
	var all sync.WaitGroup
	for _, p := range r.Processes {
		all.Go(p.Stop)
	}
	all.Wait()
	for i := len(r.closers) - 1; i >= 0; i-- {
		r.closers[i]()
	}
}

func (r *Rig) proxy(network, address string) (*badnet.Proxy, error) {
	p, err := badnet.Listen(network, address)
	if err == nil {
		r.onClose(func() { _ = p.Close() })
	}
	return p, err
}

// database makes one and returns the connection through the bad network.
func (r *Rig) database(ctx context.Context) (string, error) {
	cfg, err := mysql.ParseDSN(r.MariaDB)
	if err != nil {
		return "", errors.New("the DSN of MariaDB can not be read")
	}
	server, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		return "", err
	}
	r.onClose(func() { _ = server.Close() })
	name := "keelson_rig_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := server.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	r.onClose(func() { _, _ = server.Exec("DROP DATABASE " + name) })
	direct := cfg.Clone()
	direct.DBName, direct.ParseTime, direct.Loc = name, true, time.UTC
	r.DSN = direct.FormatDSN()
	if r.SQL, err = sql.Open("mysql", r.DSN); err != nil {
		return "", err
	}
	r.onClose(func() { _ = r.SQL.Close() })
	user := url.UserPassword(cfg.User, cfg.Passwd).String()
	if cfg.Passwd == "" {
		user = url.PathEscape(cfg.User)
	}
	plain := fmt.Sprintf("mysql+pymysql://%s@%s/%s", user, cfg.Addr, name)
	if cfg.Net == "unix" {
		plain = fmt.Sprintf("mysql+pymysql://%s@localhost/%s?unix_socket=%s", user, name, url.QueryEscape(cfg.Addr))
	}
	if r.Store, err = store.Open(ctx, plain, store.Options{}); err != nil {
		return "", err
	}
	r.onClose(func() { _ = r.Store.Close() })
	if err := r.Store.Migrate(ctx); err != nil {
		return "", err
	}
	if r.Direct {
		return plain, nil
	}
	if r.Database, err = r.proxy(cfg.Net, cfg.Addr); err != nil {
		return "", err
	}
	return fmt.Sprintf("mysql+pymysql://%s@%s/%s", user, r.Database.Addr(), name), nil
}

func (r *Rig) broker() (string, error) {
	u, err := url.Parse(r.RabbitMQ)
	if err != nil {
		return "", errors.New("the URL of RabbitMQ can not be read")
	}
	if r.Direct {
		return r.RabbitMQ, nil
	}
	if r.Broker, err = r.proxy("tcp", u.Host); err != nil {
		return "", err
	}
	u.Host = r.Broker.Addr()
	return u.String(), nil
}

// identity starts a Keystone with a member of each project, and takes tokens.
func (r *Rig) identity() (string, error) {
	people := identity.Config{
		Projects: []identity.Project{{Name: "service"}},
		Users:    []identity.User{{Name: "keelson", Password: "keelson-secret", DefaultProject: "service", Roles: map[string][]string{"service": {"service"}}}},
	}
	for i := range r.Options.Projects {
		name := fmt.Sprintf("project-%d", i+1)
		people.Projects = append(people.Projects, identity.Project{Name: name})
		people.Users = append(people.Users, identity.User{Name: name, Password: "demo", DefaultProject: name, Roles: map[string][]string{name: {"member"}}})
	}
	server, err := identity.New(people)
	if err != nil {
		return "", err
	}
	keystone := httptest.NewServer(server)
	r.onClose(keystone.Close)
	for i := range r.Options.Projects {
		name := fmt.Sprintf("project-%d", i+1)
		answer, err := http.Post(keystone.URL+"/v3/auth/tokens", "application/json", strings.NewReader(fmt.Sprintf(`{"auth": {
			"identity": {"methods": ["password"], "password": {"user": {"name": %q, "password": "demo", "domain": {"name": "Default"}}}},
			"scope": {"project": {"name": %q, "domain": {"name": "Default"}}}}}`, name, name)))
		if err != nil {
			return "", err
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		token := answer.Header.Get("X-Subject-Token")
		if token == "" {
			return "", fmt.Errorf("no token: %s", answer.Status)
		}
		r.Tokens = append(r.Tokens, token)
	}
	if r.Direct {
		return keystone.URL + "/v3", nil
	}
	if r.Keystone, err = r.proxy("tcp", keystone.Listener.Addr().String()); err != nil {
		return "", err
	}
	return "http://" + r.Keystone.Addr() + "/v3", nil
}

// HostDir is the directory of a simulated host or machine.
func (r *Rig) HostDir(name string) string { return filepath.Join(r.Dir, "hosts", name) }

// Dirs are those of all hosts and machines.
func (r *Rig) Dirs() []string {
	dirs, _ := filepath.Glob(filepath.Join(r.Dir, "hosts", "*"))
	return dirs
}

// machines makes the hosts that are there, and those that Ironic has.
func (r *Rig) machines(ctx context.Context) error {
	r.Ironic = ironictest.New(ironictest.Options{
		Logger: slog.New(slog.DiscardHandler),
		Timing: ironictest.Timing{Deploy: 300 * time.Millisecond, Clean: 300 * time.Millisecond, Undeploy: 200 * time.Millisecond, Allocate: 50 * time.Millisecond},
	})
	server := httptest.NewServer(r.Ironic)
	r.onClose(server.Close)
	r.IronicURL = server.URL
	for i := range r.Hosts {
		name := fmt.Sprintf("static-%d", i+1)
		if err := os.Mkdir(r.HostDir(name), 0o700); err != nil {
			return err
		}
		uri := "sim://" + r.HostDir(name)
		err := r.Store.AddHost(ctx, &model.Host{
			Name: name, State: model.HostReady, Bridge: "br0", LibvirtURI: &uri,
			TotalVCPUs: r.VCPUs, TotalMemoryMiB: r.MemoryMiB, TotalDiskGiB: r.DiskGiB,
		})
		if err != nil {
			return err
		}
	}
	for i := range r.Machines {
		name := fmt.Sprintf("machine-%d", i+1)
		if err := os.Mkdir(r.HostDir(name), 0o700); err != nil {
			return err
		}
		r.Ironic.Node(nodes.Node{
			Name: name, ProvisionState: "available", PowerState: "power off", ResourceClass: "baremetal",
			Properties: map[string]any{"cpus": r.VCPUs, "memory_mb": r.MemoryMiB, "local_gb": r.DiskGiB},
			Extra:      map[string]any{ironic.ExtraLibvirtURI: "sim://" + r.HostDir(name)},
		})
	}
	return nil
}

// add makes the configuration of one process.
func (r *Rig) add(role string, i int, database, broker, keystone string) error {
	name := fmt.Sprintf("%s-%d", role, i+1)
	port, err := freePort()
	if err != nil {
		return err
	}
	// What every process has to say, and what the owner of the rig adds.
	text := fmt.Sprintf(`[DEFAULT]
host = %s
state_path = %s
transport_url = %s
log_format = json
[api]
port = %d
%s
[database]
connection = %s
[keystone_authtoken]
auth_url = %s
password = keelson-secret
[drivers]
enabled = fake
[quotas]
max_clusters_per_project = %d
[network]
network = public:10.64.0.0/10:10.64.0.1:10.64.0.10-10.127.255.250
[conductor]
%s
%s
`, name, r.Dir, broker, port, r.API, database, keystone, r.Quota, r.Conductor, r.Config)
	if r.Machines > 0 {
		text += fmt.Sprintf("[ironic]\nauth_type = none\nendpoint_override = %s\nresource_class = baremetal\n"+
			"image = file:///dev/null\nimage_checksum = 00000000000000000000000000000000\npoll_interval = 0.1\n", r.IronicURL)
	}
	file := filepath.Join(r.Dir, name+".conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	r.Processes = append(r.Processes, &Process{
		Name: name, Role: role, URL: fmt.Sprintf("http://127.0.0.1:%d", port),
		program: r.Keelsond, config: file, log: filepath.Join(r.Dir, name+".log"),
	})
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Of returns the processes of a role.
func (r *Rig) Of(role string) []*Process {
	var some []*Process
	for _, p := range r.Processes {
		if p.Role == role {
			some = append(some, p)
		}
	}
	return some
}

// Start starts all processes and waits until the API answers.
func (r *Rig) Start(ctx context.Context) error {
	for _, p := range r.Processes {
		if err := p.Start(); err != nil {
			return err
		}
	}
	for _, p := range r.Of("api") {
		for {
			answer, err := http.Get(p.URL + "/healthcheck")
			if err == nil {
				_ = answer.Body.Close()
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s does not answer: %w", p.Name, ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}
