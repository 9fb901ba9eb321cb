// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keelson/keelson/internal/keystone"
)

// loginsAtOnce bounds how many passwords Keystone checks at once for one
// process: each takes it a good part of a second.
const loginsAtOnce = 8

// loginForm is what the page for the login shows.
type loginForm struct {
	Domain, User, Next string
	Error              string

	ByCredential bool // with an application credential instead
	Credential   string
}

func (p *Portal) showLogin(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	p.askToLogin(w, r, http.StatusOK, loginForm{Domain: "Default", Next: query.Get("next"), ByCredential: query.Get("with") == withCredential})
}

// withCredential asks for the form for application credentials.
const withCredential = "credential"

// askToLogin shows the form, with an anonymous session to protect it.
func (p *Portal) askToLogin(w http.ResponseWriter, r *http.Request, status int, form loginForm) {
	s := p.newSession()
	if err := p.keep(w, r, s); err != nil {
		p.fail(w, r, nil, err)
		return
	}
	p.render(w, r, status, "login", view{Title: "Log in", CSRF: s.secret(), Body: form})
}

func (p *Portal) login(w http.ResponseWriter, r *http.Request) {
	filled := func(field string) string { return strings.TrimSpace(r.PostForm.Get(field)) }
	form := loginForm{
		Domain: filled("domain"), User: filled("user"), Next: r.PostForm.Get("next"),
		ByCredential: r.PostForm.Get("with") == withCredential, Credential: filled("credential"),
	}
	who, secret := form.Domain+"\x00"+form.User, r.PostForm.Get("password")
	missing, wrong := form.Domain == "" || form.User == "" || secret == "", "Domain, user name or password is wrong."
	if form.ByCredential {
		who, secret = withCredential+"\x00"+form.Credential, filled("secret")
		missing, wrong = form.Credential == "" || secret == "", "The id or the secret is wrong, or the credential has expired."
	}
	if missing {
		form.Error = "Please fill in all fields."
		p.askToLogin(w, r, http.StatusUnprocessableEntity, form)
		return
	}
	if !p.logins.allow(p.Now(), p.address(r), who) {
		p.Logger.WarnContext(r.Context(), "too many attempts to log in to the portal", "address", p.address(r))
		w.Header().Set("Retry-After", "60")
		form.Error = "Too many attempts to log in. Please wait a minute and try again."
		p.askToLogin(w, r, http.StatusTooManyRequests, form)
		return
	}
	s, err := p.enter(r.Context(), form, secret)
	if err == nil {
		err = p.keep(w, r, s)
	}
	switch {
	case err == nil:
		p.Logger.InfoContext(r.Context(), "logged in to the portal", "user", s.User, "project_id", s.Project, "address", p.address(r))
		http.Redirect(w, r, p.link(r, inside(form.Next)), http.StatusSeeOther)
	case errors.Is(err, errNoProject):
		form.Error = "You have no role in any project. Ask an administrator of your cloud for one."
		p.askToLogin(w, r, http.StatusForbidden, form)
	case errors.Is(err, keystone.ErrLoginRefused):
		p.Logger.InfoContext(r.Context(), "login to the portal refused", "address", p.address(r))
		form.Error = wrong
		p.askToLogin(w, r, http.StatusUnauthorized, form)
	default:
		p.Logger.ErrorContext(r.Context(), "login to the portal failed", "error", err)
		form.Error = "Keystone does not answer. Please try again in a moment."
		p.askToLogin(w, r, http.StatusServiceUnavailable, form)
	}
}

var errNoProject = errors.New("no project")

// enter logs in and into a first project: that of the application credential,
// or else one that is called like the user, or the first by name.
func (p *Portal) enter(ctx context.Context, form loginForm, secret string) (*session, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := p.newSession()
	if form.ByCredential {
		text, token, err := p.Keystone.LoginWithCredential(ctx, form.Credential, secret)
		if err != nil {
			return nil, err
		}
		s.User, s.Domain, s.Ends = token.UserName, token.UserDomainName, token.ExpiresAt
		s.arrive(text, token)
		return s, nil
	}
	login, who, err := p.Keystone.Login(ctx, keystone.User{Domain: form.Domain, Name: form.User, Password: secret})
	if err != nil {
		return nil, err
	}
	s.Login, s.User, s.Domain, s.Ends = login, who.UserName, who.UserDomainName, who.ExpiresAt
	projects, err := p.projects(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(projects) == 0 {
		return nil, errNoProject
	}
	first := projects[max(0, slices.IndexFunc(projects, func(p keystone.Project) bool { return p.Name == s.User }))]
	return s, p.into(ctx, s, first.ID)
}

// projects lists what the user may enter, by name.
func (p *Portal) projects(ctx context.Context, s *session) ([]keystone.Project, error) {
	if s.Login == "" {
		return []keystone.Project{{ID: s.Project, Name: s.Name, Enabled: true}}, nil
	}
	projects, err := p.Keystone.ProjectsOf(ctx, s.Login)
	slices.SortFunc(projects, func(a, b keystone.Project) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return projects, err
}

// into moves the session into a project.
func (p *Portal) into(ctx context.Context, s *session, project string) error {
	if s.Login == "" {
		return &Refusal{Status: http.StatusForbidden, Detail: "An application credential works in one project."}
	}
	text, token, err := p.Keystone.Enter(ctx, s.Login, project)
	if err != nil {
		return err
	}
	s.arrive(text, token)
	return nil
}

// arrive notes that the session is in the token's project.
func (s *session) arrive(text string, token *keystone.Token) {
	s.Token, s.Project, s.Name = text, token.ProjectID, token.ProjectName
	if token.ExpiresAt.Before(s.Ends) {
		s.Ends = token.ExpiresAt
	}
	s.renewKey()
	s.Admin = slices.ContainsFunc(token.Roles, func(role string) bool { return strings.EqualFold(role, "admin") })
}

// listProjects shows where else the user may go.
func (p *Portal) listProjects(w http.ResponseWriter, r *http.Request, s *session) {
	projects, err := p.projects(r.Context(), s)
	if err != nil {
		p.fail(w, r, s, err)
		return
	}
	p.render(w, r, http.StatusOK, "projects", view{Title: "Projects", Nav: "projects", Session: s, Body: projects})
}

func (p *Portal) enterProject(w http.ResponseWriter, r *http.Request, s *session) {
	before := s.Token
	if err := p.into(r.Context(), s, r.PostForm.Get("project")); err != nil {
		p.fail(w, r, s, err)
		return
	}
	if err := p.keep(w, r, s); err != nil {
		p.fail(w, r, s, err)
		return
	}
	p.revoke(r, before)
	http.Redirect(w, r, p.link(r, "/clusters?did=project"), http.StatusSeeOther)
}

func (p *Portal) logout(w http.ResponseWriter, r *http.Request) {
	if s := p.sessionOf(r); s != nil {
		p.revoke(r, s.Token, s.Login)
	}
	p.forget(w, r)
	http.Redirect(w, r, p.link(r, "/login?did=logout"), http.StatusSeeOther)
}

// revoke ends tokens; a Keystone that is away ends them in its own time.
func (p *Portal) revoke(r *http.Request, tokens ...string) {
	for _, token := range tokens {
		if token == "" {
			continue
		}
		if err := p.Keystone.Revoke(r.Context(), token); err != nil {
			p.Logger.WarnContext(r.Context(), "a token of the portal is not revoked", "error", err)
		}
	}
}

// inside is a page of the portal to go to after the login, whatever the
// address said.
func inside(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/clusters"
	}
	return next
}

// address is where the browser is, as well as that is known.
func (p *Portal) address(r *http.Request) string {
	address := r.RemoteAddr
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	if via := r.Header.Values("X-Forwarded-For"); p.ProxyHeaders && len(via) > 0 {
		// The last one is what our own proxy saw.
		all := strings.Split(via[len(via)-1], ",")
		address = strings.TrimSpace(all[len(all)-1])
	}
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() && !ip.Is4In6() {
		// A network of IPv6 is one customer.
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return address
}

// attempts counts logins of the present minute.
type attempts struct {
	most int // for one user name

	mu     sync.Mutex
	minute time.Time
	counts map[string]int
}

// Limits of one minute: one address may stand for many people, and no flood
// of names shall fill the memory.
const (
	perAddress   = 3 // times as many as for one name
	mostCounters = 10_000
)

func newAttempts(most int) *attempts { return &attempts{most: most} }

// allow counts an attempt, and tells whether it may be made.
func (a *attempts) allow(now time.Time, address, user string) bool {
	if a.most == 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if minute := now.Truncate(time.Minute); !minute.Equal(a.minute) {
		a.minute, a.counts = minute, map[string]int{}
	}
	if len(a.counts) >= mostCounters {
		return false
	}
	a.counts["address "+address]++
	if a.counts["address "+address] > perAddress*a.most {
		return false
	}
	a.counts["user "+user]++
	return a.counts["user "+user] <= a.most
}
