// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// Options say where Keystone is and who asks it. The names follow
// [keystone_authtoken].
type Options struct {
	AuthURL string // "http://controller:5000/v3"; with or without the version

	Username, Password string
	UserDomainName     string // "Default" when empty
	ProjectName        string
	ProjectDomainName  string // "Default" when empty

	CAFile   string        // PEM; the system's authorities when empty
	Insecure bool          // do not verify Keystone's certificate
	Timeout  time.Duration // of one call; 10 seconds when 0
}

// Client asks Keystone as the service user. It logs in at the first call and
// again whenever Keystone no longer takes its own token. It may be used by
// several goroutines at once.
type Client struct {
	login   gophercloud.AuthOptions
	timeout time.Duration
	service *gophercloud.ServiceClient

	mu       sync.Mutex // held while logging in
	loggedIn bool
}

var _ ExpiredValidator = (*Client)(nil)

// maxConnections to Keystone; more requests wait for one. A flood of forged
// tokens then loads Keystone with no more than this many at once.
const maxConnections = 32

// NewClient prepares a client; it does not talk to Keystone yet.
func NewClient(options Options) (*Client, error) {
	if options.Timeout <= 0 {
		options.Timeout = 10 * time.Second
	}
	if options.UserDomainName == "" {
		options.UserDomainName = "Default"
	}
	if options.ProjectDomainName == "" {
		options.ProjectDomainName = "Default"
	}
	if u, err := url.Parse(options.AuthURL); err != nil || u.Host == "" {
		return nil, fmt.Errorf("keystone: auth_url %q is not a URL", options.AuthURL)
	}
	if options.Username == "" || options.Password == "" || options.ProjectName == "" {
		return nil, errors.New("keystone: the service user needs username, password and project_name")
	}
	provider, err := openstack.NewClient(options.AuthURL)
	if err != nil {
		return nil, fmt.Errorf("keystone: auth_url: %w", err)
	}
	roundTripper, err := newTransport(options)
	if err != nil {
		return nil, fmt.Errorf("keystone: %w", err)
	}
	provider.HTTPClient = http.Client{
		Transport: roundTripper,
		Timeout:   options.Timeout,
		// Tokens must not follow a redirect to another server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	service, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		return nil, fmt.Errorf("keystone: %w", err)
	}
	return &Client{
		timeout: options.Timeout,
		service: service,
		login: gophercloud.AuthOptions{
			Username: options.Username, Password: options.Password, DomainName: options.UserDomainName,
			Scope:       &gophercloud.AuthScope{ProjectName: options.ProjectName, DomainName: options.ProjectDomainName},
			AllowReauth: true,
		},
	}, nil
}

// transport repeats a login whose connection breaks under it, as net/http does
// with requests that only read: uWSGI, which often serves Keystone, closes
// idle connections without a word.
type transport struct{ *http.Transport }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost {
		r = r.Clone(r.Context())
		r.Header["Idempotency-Key"] = []string{} // net/http's mark; it is not sent
	}
	return t.Transport.RoundTrip(r)
}

func newTransport(options Options) (transport, error) {
	t := transport{http.DefaultTransport.(*http.Transport).Clone()}
	t.MaxConnsPerHost = maxConnections
	t.MaxIdleConnsPerHost = maxConnections
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: options.Insecure, MinVersion: tls.VersionTLS12}
	if options.CAFile != "" {
		pem, err := os.ReadFile(options.CAFile)
		if err != nil {
			return t, fmt.Errorf("read cafile: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return t, fmt.Errorf("cafile %s has no certificate", options.CAFile)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}

// Endpoint is where Keystone's API is, for Call.
func (c *Client) Endpoint() string { return c.service.Endpoint }

// Close drops idle connections.
func (c *Client) Close() {
	c.service.HTTPClient.CloseIdleConnections()
}

// Ping asks whether Keystone answers, without logging in. ErrUnavailable.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Clock(ctx)
	return err
}

// Clock asks Keystone what time it is, to the second, without logging in; zero
// when its answer does not tell. ErrUnavailable.
func (c *Client) Clock(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.service.Endpoint, nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("reach Keystone: %w", err)
	}
	answer, err := c.service.HTTPClient.Do(request)
	if err != nil {
		return time.Time{}, fmt.Errorf("reach Keystone: %w: %w", ErrUnavailable, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusInternalServerError {
		return time.Time{}, fmt.Errorf("reach Keystone: %w: it answers %s", ErrUnavailable, answer.Status)
	}
	date, _ := http.ParseTime(answer.Header.Get("Date")) // uWSGI, for one, sends none
	return date, nil
}

// Self logs in and returns what Keystone says of the service user's own token.
func (c *Client) Self(ctx context.Context) (*Token, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.ensureLogin(ctx); err != nil {
		return nil, err
	}
	return c.Validate(ctx, c.service.Token())
}

// PasswordIs tells whether the user with that id logs in with the password.
// ErrUnavailable.
func (c *Client) PasswordIs(ctx context.Context, userID, password string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	other, err := openstack.NewClient(c.service.Endpoint)
	if err != nil {
		return false, fmt.Errorf("keystone: %w", err)
	}
	other.HTTPClient = c.service.HTTPClient
	err = openstack.AuthenticateV3(ctx, other, &gophercloud.AuthOptions{UserID: userID, Password: password}, gophercloud.EndpointOpts{})
	if gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(err)
	}
	return true, nil
}

// Validate asks Keystone what the token stands for.
func (c *Client) Validate(ctx context.Context, token string) (*Token, error) {
	return c.validate(ctx, token, false)
}

// ValidateExpired also takes a token whose time is over.
func (c *Client) ValidateExpired(ctx context.Context, token string) (*Token, error) {
	return c.validate(ctx, token, true)
}

func (c *Client) validate(ctx context.Context, token string, allowExpired bool) (*Token, error) {
	if !isHeaderText(token) {
		return nil, ErrInvalidToken
	}
	path := c.service.ServiceURL("auth", "tokens") + "?nocatalog"
	if allowExpired {
		path += "&allow_expired=1"
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.ensureLogin(ctx); err != nil {
		return nil, err
	}
	var answer struct {
		Token tokenBody `json:"token"`
	}
	_, err := c.service.Get(ctx, path, &answer, &gophercloud.RequestOpts{
		MoreHeaders: map[string]string{"X-Subject-Token": token, accessRulesHeader: accessRulesVersion},
		OkCodes:     []int{http.StatusOK, http.StatusNonAuthoritativeInfo},
	})
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return nil, ErrInvalidToken
	}
	if err != nil {
		return nil, fmt.Errorf("validate token: %w", unavailable(err))
	}
	result := answer.Token.token()
	if result.UserID == "" || result.ExpiresAt.IsZero() {
		return nil, fmt.Errorf("validate token: %w: its answer names no user", ErrUnavailable)
	}
	if !allowExpired && !time.Now().Before(result.ExpiresAt) {
		return nil, ErrInvalidToken
	}
	return result, nil
}

// Keystone shows tokens that are limited by access rules only to services that
// say that they enforce them; see [Token.Permits].
const (
	accessRulesHeader  = "OpenStack-Identity-Access-Rules"
	accessRulesVersion = "1.0"
)

// ProjectExists tells whether the project exists. It asks in the name of the
// user whose request ctx belongs to, since services may not look at projects;
// without a user, as the service user.
func (c *Client) ProjectExists(ctx context.Context, id string) (bool, error) {
	err := c.Call(ctx, c.service.Endpoint, func(ctx context.Context, keystone *gophercloud.ServiceClient) error {
		var answer struct{}
		_, err := keystone.Get(ctx, keystone.ServiceURL("projects", url.PathEscape(id)), &answer, nil)
		return err
	})
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return false, nil
	}
	if err != nil && !errors.Is(err, ErrInvalidToken) {
		err = unavailable(err)
	}
	if err != nil {
		return false, fmt.Errorf("look up project: %w", err)
	}
	return true, nil
}

// Call lets ask talk to the service at the endpoint, with a deadline, in the
// name of the user whose request ctx belongs to; without a user, as the service
// user. The user's token travels with the service user's own, which tells the
// service that the request is part of a chain: it then takes a token that has
// expired on the way, or that access rules limit to this service.
//
// When the service refuses the tokens, the service user logs in again and ask
// is called a second time. The error is that of ask, or ErrInvalidToken when
// the user's token is the one that is refused, or ErrUnavailable when the
// service user can not log in.
func (c *Client) Call(ctx context.Context, endpoint string, ask func(context.Context, *gophercloud.ServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.ensureLogin(ctx); err != nil {
		return err
	}
	user := UserToken(ctx)
	if user == "" {
		return ask(ctx, &gophercloud.ServiceClient{ProviderClient: c.service.ProviderClient, Endpoint: endpoint})
	}
	provider := &gophercloud.ProviderClient{HTTPClient: c.service.HTTPClient}
	provider.SetToken(user)
	own := c.service.Token()
	asUser := func() error {
		headers := map[string]string{"X-Service-Token": c.service.Token()}
		return ask(ctx, &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: endpoint, MoreHeaders: headers})
	}
	err := asUser()
	if !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
		return err
	}
	if err := c.loginAgain(ctx, own); err != nil {
		return err
	}
	if err = asUser(); gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
		return ErrInvalidToken
	}
	return err
}

// loginAgain replaces the service user's token unless another caller has done
// so already. Others wait for it: it does not end when this caller leaves.
func (c *Client) loginAgain(ctx context.Context, refused string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := c.service.Reauthenticate(ctx, refused); err != nil {
		return fmt.Errorf("log in as the service user: %w", unavailable(err))
	}
	return nil
}

// Catalog returns the service catalogue that the service user gets.
func (c *Client) Catalog(ctx context.Context) ([]tokens.CatalogEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.ensureLogin(ctx); err != nil {
		return nil, err
	}
	var answer struct {
		Catalog []tokens.CatalogEntry `json:"catalog"`
	}
	if _, err := c.service.Get(ctx, c.service.ServiceURL("auth", "catalog"), &answer, nil); err != nil {
		return nil, fmt.Errorf("read the service catalogue: %w", unavailable(err))
	}
	if answer.Catalog == nil {
		return nil, fmt.Errorf("read the service catalogue: %w: its answer has none", ErrUnavailable)
	}
	return answer.Catalog, nil
}

// ensureLogin logs in once. From then on gophercloud renews the login, when
// Keystone answers a call with 401.
func (c *Client) ensureLogin(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loggedIn {
		return nil
	}
	login := c.login
	if err := openstack.AuthenticateV3(ctx, c.service.ProviderClient, &login, gophercloud.EndpointOpts{}); err != nil {
		return fmt.Errorf("log in as the service user: %w", unavailable(err))
	}
	c.loggedIn = true
	return nil
}

// unavailable makes err an ErrUnavailable. Of an answer only the status is
// kept: gophercloud's text repeats the body, where Keystone may repeat the
// token.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	if failed, ok := errors.AsType[*gophercloud.ErrUnableToReauthenticate](err); ok {
		return fmt.Errorf("log in as the service user: %w", unavailable(failed.ErrReauth))
	}
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

// isHeaderText tells whether the text can be sent to Keystone at all.
func isHeaderText(token string) bool {
	if token == "" || len(token) > maxTokenLength {
		return false
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}

// maxTokenLength is what keystonemiddleware's servers let pass in a header.
const maxTokenLength = 8 << 10

type named struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Domain *named `json:"domain"`
}

// tokenBody is the part of Keystone's description of a token that is used.
type tokenBody struct {
	ExpiresAt      timestamp       `json:"expires_at"`
	User           named           `json:"user"`
	Project        *named          `json:"project"`
	Domain         *named          `json:"domain"`
	System         map[string]bool `json:"system"`
	Trust          *named          `json:"OS-TRUST:trust"`
	Roles          []named         `json:"roles"`
	IsAdminProject *bool           `json:"is_admin_project"`
	Credential     *credential     `json:"application_credential"`
}

type credential struct {
	ID          string       `json:"id"`
	AccessRules []AccessRule `json:"access_rules"`
}

// timestamp is a time as Keystone writes it. The end of a token of an
// application credential that itself ends soon comes without a time zone; it
// is UTC like all others.
type timestamp struct{ time.Time }

func (t *timestamp) UnmarshalJSON(text []byte) error {
	if err := t.Time.UnmarshalJSON(text); err == nil {
		return nil
	}
	var err error
	t.Time, err = time.Parse(`"2006-01-02T15:04:05"`, string(text))
	return err
}

func (b *tokenBody) token() *Token {
	t := &Token{
		UserID: b.User.ID, UserName: b.User.Name,
		ExpiresAt:      b.ExpiresAt.Time,
		IsAdminProject: b.IsAdminProject == nil || *b.IsAdminProject,
		Roles:          make([]string, len(b.Roles)),
	}
	if d := b.User.Domain; d != nil {
		t.UserDomainID, t.UserDomainName = d.ID, d.Name
	}
	if p := b.Project; p != nil {
		t.ProjectID, t.ProjectName = p.ID, p.Name
		if p.Domain != nil {
			t.ProjectDomainID, t.ProjectDomainName = p.Domain.ID, p.Domain.Name
		}
	}
	if b.Domain != nil {
		t.DomainID, t.DomainName = b.Domain.ID, b.Domain.Name
	}
	if b.System["all"] {
		t.SystemScope = "all"
	}
	if b.Trust != nil {
		t.TrustID = b.Trust.ID
	}
	if b.Credential != nil {
		t.ApplicationCredentialID, t.AccessRules = b.Credential.ID, b.Credential.AccessRules
	}
	for i, role := range b.Roles {
		t.Roles[i] = role.Name
	}
	return t
}
