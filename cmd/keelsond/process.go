// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"
	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/conductor"
	"github.com/keelson/keelson/drivers"
	"github.com/keelson/keelson/internal/ca"
	"github.com/keelson/keelson/internal/catalog"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/health"
	"github.com/keelson/keelson/internal/identity"
	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/notify"
	"github.com/keelson/keelson/internal/observe"
	"github.com/keelson/keelson/internal/queue"
	"github.com/keelson/keelson/internal/store"
	"github.com/keelson/keelson/ironic"
	"github.com/keelson/keelson/ironic/ironictest"
)

// process is what the parts of one keelsond share.
type process struct {
	cfg *config.Config
	log *slog.Logger

	store        *store.Store
	queue        queue.Queue
	drivers      *drivers.Registry
	sealer       *ca.Sealer
	certificates *ca.CA
	keystone     *keystone.Client // nil without [keystone_authtoken] auth_url
	catalog      resources
	ports        conductor.Ports // nil: all addresses are Keelson's own

	observer      *observe.Observer
	notifications *notify.Sender // nil: nobody is told
	checks        []health.Check // of what this process depends on, beside database and queue
	ready         *health.Readiness

	closers []func() error
	reloads []reloadable // files that may change while the process runs
	hangup  <-chan os.Signal
}

// resources is what clusters name that is not Keelson's own.
type resources interface {
	api.Flavors
	api.Images
	api.Networks
	api.Keypairs
}

func (p *process) onClose(f func() error) { p.closers = append(p.closers, f) }

// close gives back what the process holds, last opened first.
func (p *process) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](); err != nil {
			p.log.Warn("closing", "error", err)
		}
	}
}

// start opens what the roles need and lets the group run it.
func (p *process) start(ctx context.Context, group *errgroup.Group, do roles) error {
	p.heedHangups()
	var err error
	var closeDrivers func() error
	if p.drivers, closeDrivers, err = openDrivers(ctx, p.cfg, p.log); err != nil {
		return err
	}
	p.onClose(closeDrivers)
	if do.builtin {
		if err := os.MkdirAll(p.cfg.StatePath, 0o700); err != nil {
			return fmt.Errorf("state_path: %w", err)
		}
	}
	if err := p.openObserver(ctx, do); err != nil {
		return err
	}
	if err := p.openStore(ctx, do.builtin); err != nil {
		return err
	}
	if err := p.openKeys(do.builtin); err != nil {
		return err
	}
	if err := p.openQueue(do); err != nil {
		return err
	}
	if err := p.startNotifications(ctx, group); err != nil {
		return err
	}
	if do.builtin {
		if err := p.startBuiltin(ctx, group); err != nil {
			return err
		}
	}
	if err := p.openCloud(); err != nil {
		return err
	}
	if do.conductor {
		if err := p.startConductor(ctx, group); err != nil {
			return err
		}
	}
	if do.api {
		if err := p.startAPI(ctx, group); err != nil {
			return err
		}
	}
	if err := p.startMetrics(ctx, group); err != nil {
		return err
	}
	p.startReloads(ctx, group)
	return nil
}

func (p *process) openStore(ctx context.Context, migrate bool) error {
	s, err := openStore(ctx, p.cfg, p.log)
	if err != nil {
		return err
	}
	p.store = s
	p.onClose(s.Close)
	if migrate {
		return s.Migrate(ctx)
	}
	newer, err := s.CheckSchema(ctx)
	if newer {
		p.log.Warn("the database belongs to a newer release already, which this one can work with: upgrade this process, too")
	}
	return err
}

func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (*store.Store, error) {
	return store.Open(ctx, cfg.Database.Connection.Reveal(), store.Options{
		Logger: log, MaxOpen: cfg.Database.MaxPoolSize, SlowQuery: cfg.Database.SlowQuery, Notify: notifying(cfg),
	})
}

func (p *process) openKeys(create bool) error {
	loadKeys := ca.LoadKeyFile
	if create {
		loadKeys = ca.LoadOrCreateKeyFile
	}
	var err error
	if p.sealer, err = loadKeys(p.cfg.X509.MasterKeyFile); err != nil {
		return fmt.Errorf("[x509] master_key_file (keelsond master-key create makes one): %w", err)
	}
	p.reloads = append(p.reloads, reloadable{"the master keys", p.sealer.Reload})
	p.certificates, err = newCA(p.cfg, p.store, p.sealer)
	return err
}

func newCA(cfg *config.Config, s *store.Store, sealer *ca.Sealer) (*ca.CA, error) {
	return ca.New(s, sealer, ca.Options{
		KeyType: cfg.X509.KeyType, RSABits: cfg.X509.RSAKeySize, Term: cfg.X509.TermOfValidity, NotFound: store.ErrNotFound,
	})
}

func (p *process) openQueue(do roles) error {
	q, err := queue.Open(p.cfg.TransportURL.Reveal(), queue.Options{
		Logger: p.log, Name: p.connectionName(), Parallel: p.cfg.Conductor.Workers,
	})
	if err != nil {
		return err
	}
	p.queue = q
	p.onClose(q.Close)
	if p.cfg.TransportURL.Reveal() == "memory://" && do.api != do.conductor {
		p.log.Warn("transport_url is memory://: no message reaches other processes, conductors find new work by asking the database only")
	}
	return nil
}

// openCloud makes the client of Keystone and what asks the services that it
// knows. Nothing is asked yet.
func (p *process) openCloud() error {
	own := configuredCatalog(p.cfg)
	p.catalog = own
	c := &p.cfg.KeystoneAuthToken
	if c.AuthURL == "" {
		if len(p.cfg.Network.NeutronNetworks) > 0 {
			return errors.New("[network] neutron_network takes a Keystone: set [keystone_authtoken] auth_url")
		}
		return nil
	}
	client, err := keystone.NewClient(keystone.Options{
		AuthURL: c.AuthURL, Username: c.Username, Password: c.Password.Reveal(), ProjectName: c.ProjectName,
		UserDomainName: c.UserDomainName, ProjectDomainName: c.ProjectDomainName, CAFile: c.CAFile, Insecure: c.Insecure,
	})
	if err != nil {
		return fmt.Errorf("[keystone_authtoken]: %w", err)
	}
	p.keystone = client
	p.onClose(func() error { client.Close(); return nil })
	from := &p.cfg.Catalog
	cloud := catalog.NewCloud(own, client, catalog.CloudOptions{
		Flavors: from.Flavors == "auto", Images: from.Images == "auto", Networks: from.Networks == "auto", Keypairs: from.Keypairs == "auto",
		Region: c.RegionName, Interface: from.Interface, CacheTime: from.CacheTime, DiskGiB: from.NodeDisk,
	})
	p.catalog = cloud
	if len(p.cfg.Network.NeutronNetworks) > 0 {
		ids := make(map[string]string)
		for _, n := range p.cfg.Network.NeutronNetworks {
			ids[n.Name] = n.ID
		}
		p.ports = catalog.NewPorts(cloud, ids)
	}
	return nil
}

// connectionName tells this process's connections apart in the broker's tools.
func (p *process) connectionName() string {
	return fmt.Sprintf("keelsond %s %d", p.cfg.Host, os.Getpid())
}

// startBuiltin runs the identity service and the Ironic of the embedded
// default, as far as the configuration enables them.
func (p *process) startBuiltin(ctx context.Context, group *errgroup.Group) error {
	if c := &p.cfg.Identity; c.Enabled {
		l, err := listen("the built-in identity service ([identity] port)", c.Host, c.Port)
		if err != nil {
			return err
		}
		useBuiltinIdentity(p.cfg, l.Addr())
		server, err := identity.New(builtinIdentity(p.cfg, l.Addr(), p.log))
		if err != nil {
			return errors.Join(fmt.Errorf("built-in identity service: %w", err), l.Close())
		}
		group.Go(func() error { return server.Run(ctx, l) })
	}
	if c := &p.cfg.Ironic; c.Builtin {
		l, err := listen("the built-in Ironic ([ironic] builtin_port)", "127.0.0.1", c.BuiltinPort)
		if err != nil {
			return err
		}
		server, err := ironictest.Open(ironictest.Options{StateFile: filepath.Join(p.cfg.StatePath, "ironic.json"), Logger: p.log})
		if err != nil {
			return errors.Join(err, l.Close())
		}
		for _, m := range c.BuiltinNodes {
			server.Node(nodes.Node{
				Name: m.Name, ProvisionState: "available", PowerState: "power off", ResourceClass: c.ResourceClass,
				Properties: map[string]any{"cpus": m.VCPUs, "memory_mb": m.MemoryMiB, "local_gb": m.DiskGiB},
				Extra:      map[string]any{ironic.ExtraLibvirtURI: m.LibvirtURI},
			})
		}
		c.AuthType, c.EndpointOverride = ironic.AuthNone, "http://"+l.Addr().String()
		group.Go(func() error {
			return serveHTTP(ctx, l, server, p.cfg.API.ReadTimeout, p.cfg.API.ShutdownTimeout, p.log)
		})
	}
	return nil
}

// builtinIdentity is what the built-in identity service knows: the users admin
// and demo, and Keelson's own, whose password lives as long as the process.
func builtinIdentity(cfg *config.Config, at net.Addr, log *slog.Logger) identity.Config {
	return identity.Config{
		URL:      "http://" + at.String() + "/v3",
		Projects: []identity.Project{{Name: "admin"}, {Name: "demo"}, {Name: "service"}},
		Users: []identity.User{
			{Name: "admin", Password: cfg.Identity.AdminPassword.Reveal(), DefaultProject: "admin", Roles: map[string][]string{"admin": {"admin"}, "demo": {"admin"}}},
			{Name: "demo", Password: cfg.Identity.DemoPassword.Reveal(), DefaultProject: "demo", Roles: map[string][]string{"demo": {"member"}}},
			{Name: cfg.KeystoneAuthToken.Username, Password: cfg.KeystoneAuthToken.Password.Reveal(), DefaultProject: "service", Roles: map[string][]string{"service": {"service"}}},
		},
		Services: []identity.Service{
			{Type: "container-infra", Name: "keelson", URL: publicEndpoint(cfg) + "/v1"},
		},
		Logger: log,
	}
}

// publicEndpoint is where clients reach the API.
func publicEndpoint(cfg *config.Config) string {
	if cfg.API.PublicEndpoint != "" {
		return cfg.API.PublicEndpoint
	}
	scheme := "http://"
	if cfg.API.EnabledSSL {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(cfg.API.Host, strconv.Itoa(cfg.API.Port))
}
