// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/keelson/keelson/internal/keystone"
)

// CloudOptions say which services of a cloud are asked, and how.
type CloudOptions struct {
	// What the cloud is asked for, if the service catalogue has its service.
	Flavors, Images, Networks, Keypairs bool

	Region    string        // of the services; any when empty
	Interface string        // of their endpoints: "public" (when empty), "internal" or "admin"
	CacheTime time.Duration // for which an answer and the service catalogue are not asked for again
	DiskGiB   int           // of nodes whose flavor has no disk
}

// Cloud is a catalogue that other services of the cloud keep. What a service
// knows that Keystone's service catalogue does not have is answered by the
// configured catalogue.
//
// A look-up is made in the name of the user whose request the context belongs
// to, so it finds what that user may use. Without a user it is made by
// Keelson's own, who sees more if it is an administrator: then private flavors
// and images are found only for a project that may use them; see
// [WithProject]. It may be used from several goroutines at once.
type Cloud struct {
	*Configured
	session *keystone.Client
	options CloudOptions
	answers *cache

	mu      sync.Mutex
	entries []tokens.CatalogEntry // nil until read
	until   time.Time
}

// NewCloud makes a catalogue that asks the cloud that session leads to.
func NewCloud(own *Configured, session *keystone.Client, options CloudOptions) *Cloud {
	if options.Interface == "" {
		options.Interface = string(gophercloud.AvailabilityPublic)
	}
	return &Cloud{Configured: own, session: session, options: options, answers: newCache(options.CacheTime)}
}

// service is one that knows things for nodes.
type service struct {
	name    string   // for people
	types   []string // in the service catalogue: the official one and its aliases
	version string   // of its API, as in its addresses
}

var (
	compute = service{"Compute", []string{"compute"}, "v2.1"}
	image   = service{"Image", []string{"image"}, "v2"}
	network = service{"Networking", []string{"network", "networking"}, "v2.0"}
)

type projectKey struct{}

// WithProject returns a context for look-ups without a user: what they find is
// for that project.
func WithProject(ctx context.Context, projectID string) context.Context {
	return context.WithValue(ctx, projectKey{}, projectID)
}

func projectOf(ctx context.Context) string {
	id, _ := ctx.Value(projectKey{}).(string)
	return id
}

// byUser tells whether a look-up is made in a user's name.
func byUser(ctx context.Context) bool { return keystone.UserToken(ctx) != "" }

// asker is everything that what a service shows may depend on.
func asker(ctx context.Context) string {
	t := keystone.FromContext(ctx)
	if t == nil || !byUser(ctx) {
		return "project " + projectOf(ctx)
	}
	return fmt.Sprintf("user %q %q %q %q %q %q", t.UserID, t.ProjectID, t.DomainID, t.SystemScope, t.TrustID, t.Roles)
}

// endpoint returns where the service's API is, or "" when the service catalogue
// does not have it.
func (c *Cloud) endpoint(ctx context.Context, s service) (string, error) {
	entries, err := c.catalog(ctx)
	if err != nil {
		return "", err
	}
	here := false
	for _, entry := range entries {
		if !slices.Contains(s.types, entry.Type) {
			continue
		}
		for _, e := range entry.Endpoints {
			if c.options.Region != "" && e.RegionID != c.options.Region && e.Region != c.options.Region {
				continue
			}
			here = true
			if e.Interface == c.options.Interface {
				return s.address(e.URL), nil
			}
		}
	}
	if here {
		return "", fmt.Errorf("%s: %w: the service catalogue has no %s endpoint of it", s.name, ErrUnavailable, c.options.Interface)
	}
	return "", nil
}

var versionSuffix = regexp.MustCompile(`/v[0-9]+(\.[0-9]+)?(/[^/]*)?$`)

// address makes an endpoint the one of the version that is spoken here. Cloud
// operators register it with a version, with version and project, or without.
func (s service) address(endpoint string) string {
	return versionSuffix.ReplaceAllString(strings.TrimRight(endpoint, "/"), "") + "/" + s.version + "/"
}

// catalog returns the service catalogue. A known one serves while Keystone is
// away.
func (c *Cloud) catalog(ctx context.Context) ([]tokens.CatalogEntry, error) {
	c.mu.Lock()
	known, until := c.entries, c.until
	c.mu.Unlock()
	if known != nil && time.Now().Before(until) {
		return known, nil
	}
	entries, err := c.session.Catalog(ctx)
	if err != nil && known == nil {
		return nil, err
	}
	if err != nil {
		entries = known
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.until = entries, time.Now().Add(c.options.CacheTime)
	return entries, nil
}

// ask makes calls to the service. An error is one of this package's, of
// package fault, or keystone.ErrUnavailable or ErrInvalidToken.
func (c *Cloud) ask(ctx context.Context, s service, endpoint string, calls func(context.Context, *gophercloud.ServiceClient) error) error {
	err := c.session.Call(ctx, endpoint, calls)
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusForbidden) && byUser(ctx):
		return ErrForbidden
	case err != nil && !isAnswer(err):
		return fmt.Errorf("%s: %w", s.name, unavailable(err))
	}
	return err
}

// isAnswer tells whether err is about the thing that was looked for.
func isAnswer(err error) bool {
	return slices.ContainsFunc([]error{ErrNotFound, ErrAmbiguous, keystone.ErrInvalidToken, keystone.ErrUnavailable},
		func(known error) bool { return errors.Is(err, known) })
}

// unavailable makes err an ErrUnavailable. Of an answer only the status is
// kept: its body may repeat a token.
func unavailable(err error) error {
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return fmt.Errorf("%w: it answered %d %s", ErrUnavailable, answer.Actual, http.StatusText(answer.Actual))
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%w: %w", ErrUnavailable, failed)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: its answer was not understood", ErrUnavailable)
}
