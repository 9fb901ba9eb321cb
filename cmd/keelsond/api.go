// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keelson/keelson/api"
	"github.com/keelson/keelson/api/portal"
	"github.com/keelson/keelson/internal/config"
	"github.com/keelson/keelson/internal/health"
	"github.com/keelson/keelson/internal/keystone"
	"github.com/keelson/keelson/internal/queue"
)

// startAPI lets the group run the REST API and the outbox.
func (p *process) startAPI(ctx context.Context, group *errgroup.Group) error {
	enforcer, err := loadPolicy(p.cfg, p.log)
	if err != nil {
		return err
	}
	authenticate, projects, err := p.authentication()
	if err != nil {
		return err
	}
	outbox := queue.NewOutbox(p.store, p.queue, p.log)
	handler := api.New(api.Config{
		MaxLimit: p.cfg.API.MaxLimit, MaxBody: int64(p.cfg.API.MaxBodySize), ProxyHeaders: p.cfg.API.EnableProxyHeadersParsing,
		MaxClusters: p.cfg.Quotas.MaxClustersPerProject, OperationTimeout: p.cfg.Conductor.CreateTimeout, MaxPending: p.cfg.API.MaxPendingOperations,
		ServiceDownTime: p.cfg.ServiceDownTime, DisabledByFile: p.cfg.Healthcheck.DisableByFilePath,
		Reads:          api.RateLimit{PerSecond: p.cfg.RateLimit.ReadsPerSecond, Burst: p.cfg.RateLimit.ReadsBurst},
		Changes:        api.RateLimit{PerSecond: p.cfg.RateLimit.ChangesPerSecond, Burst: p.cfg.RateLimit.ChangesBurst},
		AllowedOrigins: p.cfg.CORS.AllowedOrigins, PreflightAge: p.cfg.CORS.MaxAge,
	}, api.Deps{
		Logger: p.log, Store: p.store, Policy: enforcer, COEs: coes{p.drivers}, Certificates: p.certificates,
		Flavors: p.catalog, Images: p.catalog, Networks: p.catalog, Keypairs: p.catalog, Projects: projects,
		Authenticate: authenticate, Announce: outbox.Kick, Now: time.Now, Observer: p.observer, Readiness: p.readiness(), Closing: ctx.Done(),
	})
	l, err := p.listenAPI()
	if err != nil {
		return err
	}
	handler = p.withPortal(handler)
	group.Go(func() error {
		return serveHTTP(ctx, l, handler, p.cfg.API.ReadTimeout, p.cfg.API.ShutdownTimeout, p.log)
	})
	group.Go(func() error { return outbox.Run(ctx) })
	group.Go(func() error { return enforcer.Run(ctx) })
	return nil
}

// withPortal serves the pages for people beside the API, unless they are
// switched off.
func (p *process) withPortal(handler http.Handler) http.Handler {
	c := &p.cfg.Portal
	if !c.Enabled {
		return handler
	}
	pages := portal.New(portal.Options{
		API: handler, Keystone: p.keystone, Sealer: p.sealer, Logger: p.log,
		SessionIdle: c.SessionIdle, SessionLifetime: c.SessionLifetime, LoginsPerMinute: c.LoginsPerMinute,
		ProxyHeaders: p.cfg.API.EnableProxyHeadersParsing,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == portal.Path || strings.HasPrefix(r.URL.Path, portal.Path+"/") {
			pages.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

func (p *process) listenAPI() (net.Listener, error) {
	c := &p.cfg.API
	l, err := listen("the API ([api] port)", c.Host, c.Port)
	if err != nil || !c.EnabledSSL {
		return l, err
	}
	certificate := &certificateFile{cert: c.SSLCertFile, key: c.SSLKeyFile}
	if _, err := certificate.Reload(true); err != nil {
		return nil, errors.Join(fmt.Errorf("[api] ssl_cert_file and ssl_key_file: %w", err), l.Close())
	}
	p.reloads = append(p.reloads, reloadable{"the certificate of the API", certificate.Reload})
	return tls.NewListener(l, &tls.Config{GetCertificate: certificate.Get, MinVersion: tls.VersionTLS12}), nil
}

// authentication lets requests with a valid token pass.
func (p *process) authentication() (func(http.Handler) http.Handler, api.Projects, error) {
	c := &p.cfg.KeystoneAuthToken
	if p.keystone == nil {
		return nil, nil, errors.New("[keystone_authtoken] auth_url is not set: the API needs Keystone, or [identity] enabled with all-in-one")
	}
	p.checks = append(p.checks, health.Check{Name: "keystone", Ask: p.keystone.Ping})
	validator := p.observer.Keystone(p.keystone)
	if c.TokenCacheTime > 0 {
		cache := keystone.NewCache(validator, keystone.CacheOptions{Time: c.TokenCacheTime})
		p.observer.TokenCache(cache.Lookups)
		validator = cache
	}
	uri := c.WWWAuthenticateURI
	if uri == "" {
		uri = c.AuthURL
	}
	// The API itself hands on only what needs a token.
	public := func(*http.Request) bool { return false }
	return keystone.Middleware(validator, uri, public, keystone.ServiceTokenRoles(c.ServiceTokenRoles, c.ServiceTokenRolesRequired),
		keystone.ServiceType(c.ServiceType), keystone.Logger(p.log)), p.keystone, nil
}

// useBuiltinIdentity makes the API check tokens with the built-in identity
// service. Keelson's own password there lives as long as the process.
func useBuiltinIdentity(cfg *config.Config, at net.Addr) {
	cfg.KeystoneAuthToken.AuthURL = "http://" + at.String() + "/v3"
	cfg.KeystoneAuthToken.Password = config.Secret(rand.Text())
}
