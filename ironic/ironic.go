// SPDX-License-Identifier: Apache-2.0

// Package ironic gets bare-metal hosts from OpenStack Ironic and gives them
// back.
//
// Everything is a step: [Client.Allocate], [Client.Deploy], [Client.Release]
// and [Client.Enroll] look at what Ironic has, send at most one request that
// changes something, and return at once. A [Result] that is not done asks to
// be called again with the same arguments; nothing is remembered in between,
// so a step may be continued by another process. Errors are temporary or
// permanent in the sense of package fault; their reasons may be shown to
// users, their causes are for operators.
//
// Ironic must speak microversion 1.56 (config drives as JSON objects) or newer;
// Keelson asks for 1.82 where the server has it.
package ironic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"github.com/keelson/keelson/internal/fault"
)

// Microversions: the oldest that Keelson can work with, and the newest that it
// was tried with.
const (
	baselineMinor = 56
	newestMinor   = 82
)

// Values of Options.Auth.
const (
	AuthNone     = "none"
	AuthPassword = "password"
)

// Options say where Ironic is and how to reach it.
type Options struct {
	// Auth is AuthNone (the default) or AuthPassword.
	Auth string
	// Endpoint is Ironic's URL, with or without /v1. May be empty with
	// AuthPassword: then the service catalogue's "baremetal" entry is used.
	Endpoint string

	// For AuthPassword: the identity service and the account to use there.
	AuthURL           string
	Username          string
	Password          string
	UserDomainName    string
	ProjectName       string
	ProjectDomainName string
	Region            string // empty: any
	Interface         string // public, internal or admin; empty means public

	CAFile   string // PEM file of authorities to trust; empty means the system's
	Insecure bool   // do not verify the server's certificate

	// Timeout bounds one HTTP request; 0 means 30 s. Ironic itself may hold a
	// request for some seconds while a node is locked.
	Timeout time.Duration
	// MinDelay and MaxDelay bound Result.After; 0 means 200 ms and 10 s.
	MinDelay, MaxDelay time.Duration

	Logger *slog.Logger     // nil means slog.Default
	Now    func() time.Time // nil means time.Now
	Jitter func() float64   // in [0,1); nil means random
}

// Client takes steps on bare-metal hosts. It may be used from several
// goroutines at once.
type Client struct {
	opt  Options
	http *http.Client
	log  *slog.Logger

	// connecting holds one token: whoever has it may set service.
	connecting chan struct{}
	service    *gophercloud.ServiceClient
	features   Features
}

// New returns a client. It checks the options only: the network is first used
// by the first step, so that a service can start while Ironic is down.
func New(o Options) (*Client, error) {
	var faults []error
	switch o.Auth {
	case "", AuthNone:
		o.Auth = AuthNone
		if o.Endpoint == "" {
			faults = append(faults, errors.New("the endpoint of Ironic is not set (without authentication there is no catalogue to find it in)"))
		}
	case AuthPassword:
		for _, f := range []struct{ name, value string }{
			{"auth_url", o.AuthURL}, {"username", o.Username}, {"password", o.Password}, {"project_name", o.ProjectName},
		} {
			if f.value == "" {
				faults = append(faults, fmt.Errorf("%s is not set", f.name))
			}
		}
	default:
		faults = append(faults, fmt.Errorf("auth type %q is not known; use %s or %s", o.Auth, AuthNone, AuthPassword))
	}
	for name, s := range map[string]string{"endpoint": o.Endpoint, "auth_url": o.AuthURL} {
		if u, err := url.Parse(s); s != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			faults = append(faults, fmt.Errorf("%s %q is not an http or https URL", name, s))
		}
	}
	roots, err := authorities(o.CAFile)
	if err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("set up Ironic: %w", err)
	}

	o.Timeout = orDefault(o.Timeout, 30*time.Second)
	o.MinDelay = orDefault(o.MinDelay, 200*time.Millisecond)
	o.MaxDelay = orDefault(o.MaxDelay, 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Client{opt: o, log: o.Logger, connecting: make(chan struct{}, 1)}
	if c.log == nil {
		c.log = slog.Default()
	}
	c.http = &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, InsecureSkipVerify: o.Insecure}, //nolint:gosec // the operator's explicit choice
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: o.Timeout,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
		},
	}
	c.connecting <- struct{}{}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Features says what the Ironic that was found can do.
type Features struct {
	minor int // negotiated microversion 1.<minor>
}

// Microversion returns the version that requests carry: "1.82".
func (f Features) Microversion() string { return "1." + strconv.Itoa(f.minor) }

// HasRetirement tells whether nodes can be marked as retired (1.61).
func (f Features) HasRetirement() bool { return f.minor >= 61 }

// Features asks Ironic for its versions, once, and says what it can do.
func (c *Client) Features(ctx context.Context) (Features, error) {
	if _, err := c.connect(ctx); err != nil {
		return Features{}, err
	}
	return c.features, nil
}

// connect logs in and agrees on a microversion; the first success is kept.
func (c *Client) connect(ctx context.Context) (*gophercloud.ServiceClient, error) {
	select {
	case <-c.connecting:
		defer func() { c.connecting <- struct{}{} }()
	case <-ctx.Done():
		return nil, temporary("connect to Ironic", ctx.Err())
	}
	if c.service != nil {
		return c.service, nil
	}
	provider, base, err := c.login(ctx)
	if err != nil {
		return nil, err
	}
	// The version document lives above /v1 and needs no token.
	base = strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/v1") + "/"
	sc := &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: base + "v1/", Type: "baremetal"}
	var doc struct {
		Default struct {
			Min string `json:"min_version"`
			Max string `json:"version"`
		} `json:"default_version"`
	}
	if _, err := provider.Request(ctx, http.MethodGet, base, &gophercloud.RequestOpts{JSONResponse: &doc, OkCodes: []int{200}}); err != nil {
		return nil, classify("ask Ironic for its versions", err)
	}
	minor, err := negotiate(doc.Default.Min, doc.Default.Max)
	if err != nil {
		return nil, err
	}
	c.features = Features{minor: minor}
	sc.Microversion = c.features.Microversion()
	c.service = sc
	c.log.Info("connected to Ironic", "endpoint", base, "microversion", sc.Microversion, "newest", doc.Default.Max)
	return sc, nil
}

// login returns a client that carries a token if need be, and Ironic's URL.
func (c *Client) login(ctx context.Context) (*gophercloud.ProviderClient, string, error) {
	if c.opt.Auth == AuthNone {
		provider := &gophercloud.ProviderClient{HTTPClient: *c.http}
		return provider, c.opt.Endpoint, nil
	}
	provider, err := openstack.NewClient(c.opt.AuthURL)
	if err != nil {
		return nil, "", fault.Permanent(err, "the identity service's address in the configuration is not usable")
	}
	provider.HTTPClient = *c.http
	err = openstack.Authenticate(ctx, provider, gophercloud.AuthOptions{
		IdentityEndpoint: c.opt.AuthURL,
		Username:         c.opt.Username,
		Password:         c.opt.Password,
		DomainName:       c.opt.UserDomainName,
		AllowReauth:      true,
		Scope: &gophercloud.AuthScope{
			ProjectName: c.opt.ProjectName,
			DomainName:  c.opt.ProjectDomainName,
		},
	})
	if err != nil {
		return nil, "", classify("log in for Ironic", err)
	}
	if c.opt.Endpoint != "" {
		return provider, c.opt.Endpoint, nil
	}
	sc, err := openstack.NewBareMetalV1(provider, gophercloud.EndpointOpts{
		Region:       c.opt.Region,
		Availability: gophercloud.Availability(c.opt.Interface),
	})
	if err != nil {
		return nil, "", fault.Temporary(err, "the service catalogue has no bare-metal service; ask the operator to register one or to set its endpoint")
	}
	return provider, sc.Endpoint, nil
}

// negotiate picks the microversion that requests will carry.
func negotiate(lowest, highest string) (int, error) {
	low, errLow := minorOf(lowest)
	high, errHigh := minorOf(highest)
	if err := errors.Join(errLow, errHigh); err != nil {
		return 0, fault.Temporary(err, "the bare-metal service's address in the configuration does not answer as Ironic")
	}
	if high < baselineMinor || low > newestMinor {
		return 0, fault.Permanent(nil, "Ironic speaks versions %s to %s; Keelson needs 1.%d or newer", lowest, highest, baselineMinor)
	}
	return min(high, newestMinor), nil
}

func minorOf(version string) (int, error) {
	digits, ok := strings.CutPrefix(version, "1.")
	minor, err := strconv.Atoi(digits)
	if !ok || err != nil || minor < 0 {
		return 0, fmt.Errorf("%q is not a version of Ironic", version)
	}
	return minor, nil
}

func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the CA file %s holds no certificate", file)
	}
	return pool, nil
}

func orDefault(d, byDefault time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return byDefault
}
