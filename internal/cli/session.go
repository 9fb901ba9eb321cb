// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// session is what Keystone gave for a login. It is kept in a file between runs,
// because a login takes Keystone longer than most commands take otherwise.
type session struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
	Endpoint  string    `json:"endpoint"` // of the Container Infrastructure API, ends in /v1
	ProjectID string    `json:"project_id"`
}

// tokenReserve is how long a kept token must still be good to be used.
const tokenReserve = 2 * time.Minute

// logIn asks Keystone for a token and where the API is: one call.
func (l *login) logIn(ctx context.Context, client *http.Client) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	provider, err := openstack.NewClient(l.auth.IdentityEndpoint)
	if err != nil {
		return nil, usage("the URL of Keystone is not one: %v", err)
	}
	provider.HTTPClient = *client
	if err := openstack.AuthenticateV3(ctx, provider, &l.auth, gophercloud.EndpointOpts{}); err != nil {
		return nil, l.refused(err)
	}
	s := &session{Token: provider.Token()}
	if err := s.describe(provider.GetAuthResult()); err != nil {
		return nil, fmt.Errorf("reading Keystone's answer: %w", err)
	}
	where := l.endpoint
	where.ApplyDefaults("container-infrastructure-management")
	where.Aliases = append(where.Aliases, "container-infra")
	endpoint, err := provider.EndpointLocator(where)
	if err != nil {
		return nil, &failure{
			code: codeFailed, cause: err,
			message: fmt.Sprintf("the catalogue of cloud %s has no Container Infrastructure service%s", l.name, ofRegion(l.endpoint.Region)),
			hint:    "see `openstack catalog list` for what there is; OS_REGION_NAME or --os-region-name choose the region",
		}
	}
	s.Endpoint = strings.TrimSuffix(endpoint, "/")
	if !strings.HasSuffix(s.Endpoint, "/v1") {
		s.Endpoint += "/v1"
	}
	return s, nil
}

// describe reads what the token says about itself.
func (s *session) describe(result gophercloud.AuthResult) error {
	var token *tokens.Token
	var project *tokens.Project
	var err error
	switch r := result.(type) {
	case tokens.CreateResult:
		if token, err = r.ExtractToken(); err == nil {
			project, err = r.ExtractProject()
		}
	case tokens.GetResult: // the user brought a token
		if token, err = r.ExtractToken(); err == nil {
			project, err = r.ExtractProject()
		}
	default:
		return fmt.Errorf("of unknown kind %T", result)
	}
	if err != nil {
		return err
	}
	s.ExpiresAt = token.ExpiresAt
	if project != nil {
		s.ProjectID = project.ID
	}
	return nil
}

func ofRegion(region string) string {
	if region == "" {
		return ""
	}
	return " in region " + region
}

// refused says why the login failed, without what was sent.
func (l *login) refused(err error) error {
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusUnauthorized):
		return &failure{
			code: codeRefused, cause: err, message: fmt.Sprintf("Keystone at %s refused the login", l.auth.IdentityEndpoint),
			hint: "check user name, password, project and domains (or the application credential); `openstack token issue` uses the same",
		}
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound):
		return &failure{
			code: codeUsage, cause: err, message: fmt.Sprintf("there is no Keystone v3 at %s", l.auth.IdentityEndpoint),
			hint: "the URL usually ends in :5000/v3",
		}
	}
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return &failure{code: codeUnreachable, cause: err, message: fmt.Sprintf("Keystone at %s answered the login with status %d", l.auth.IdentityEndpoint, answer.Actual)}
	}
	return unreachable("Keystone", l.auth.IdentityEndpoint, err)
}

// unreachable says that no answer came, and why.
func unreachable(who, where string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	cause := err
	if e, ok := errors.AsType[*url.Error](err); ok {
		cause = e.Err // its text repeats method and URL
	}
	f := &failure{code: codeUnreachable, cause: err, message: fmt.Sprintf("%s at %s does not answer: %v", who, where, cause)}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		f.message = fmt.Sprintf("%s at %s does not answer in time", who, where)
	}
	if strings.Contains(cause.Error(), "certificate") {
		return f.next("name the file with the authority of that certificate: OS_CACERT, or cacert in clouds.yaml")
	}
	return f.next("check that the address is right and can be reached from here")
}

// sessionFile is where the login's session is kept: "" when none is to be.
// The name tells nothing; it depends on everything of the login but secrets.
func (l *login) sessionFile() string {
	switch strings.ToLower(os.Getenv("KEELSON_TOKEN_CACHE")) {
	case "0", "off", "no", "false":
		return ""
	}
	dir, err := os.UserCacheDir()
	if err != nil || l.auth.TokenID != "" {
		return ""
	}
	return filepath.Join(dir, "keelson", "session-"+l.fingerprint()+".json")
}

// fingerprint tells logins apart.
func (l *login) fingerprint() string {
	a := l.auth
	identity, _ := json.Marshal([]any{ // of plain values: can not fail
		a.IdentityEndpoint, a.UserID, a.Username, a.DomainID, a.DomainName, a.TenantID, a.TenantName, a.Scope,
		a.ApplicationCredentialID, a.ApplicationCredentialName, l.endpoint.Region, l.endpoint.Availability,
	})
	sum := sha256.Sum256(identity)
	return hex.EncodeToString(sum[:8])
}

// keptSession reads the session of an earlier run; nil if there is none that
// will do. A file that others can read is not trusted.
func (l *login) keptSession() *session {
	file := l.sessionFile()
	if file == "" {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil || !private(info) {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var s session
	if json.Unmarshal(text, &s) != nil || s.Token == "" || s.Endpoint == "" || time.Until(s.ExpiresAt) < tokenReserve {
		return nil
	}
	return &s
}

// keep stores the session for the next run. It is a convenience: when it can
// not be stored, nothing is said.
func (l *login) keep(s *session) {
	file := l.sessionFile()
	if file == "" {
		return
	}
	text, err := json.Marshal(s)
	if err != nil || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	_ = writePrivate(file, text)
}

// forget removes what keep stored.
func (l *login) forget() {
	if file := l.sessionFile(); file != "" {
		_ = os.Remove(file)
	}
}
