// SPDX-License-Identifier: Apache-2.0

// Package portal is Keelson's web pages for people.
//
// The portal is a client of the API, in the same process: what it shows it
// has asked the API for, with the token of who looks, and what somebody does
// goes through the API's rules, checks and audit. It has no other way to the
// data, and no rules of its own.
//
// Pages are made on the server and work without JavaScript; htmx only fetches
// pieces of them anew. No page has scripts or styles in it, and all that it
// loads comes from here: the content security policy forbids everything else.
//
// Nothing is kept between two requests. Who is logged in is in a sealed cookie
// that every API process with the same master key opens, so that any of them
// may answer the next request.
package portal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keelson/keelson/internal/keystone"
)

// Path is what all addresses of the portal begin with.
const Path = "/portal"

// Keystone lets people in. *keystone.Client is one.
type Keystone interface {
	// Login returns a token without a project. keystone.ErrLoginRefused,
	// keystone.ErrUnavailable; so for all methods.
	Login(ctx context.Context, user keystone.User) (text string, token *keystone.Token, err error)
	// LoginWithCredential returns a token for the project of an application
	// credential.
	LoginWithCredential(ctx context.Context, id, secret string) (text string, token *keystone.Token, err error)
	// Enter returns a token for a project that lives as long as the first.
	Enter(ctx context.Context, from, projectID string) (text string, token *keystone.Token, err error)
	// ProjectsOf lists the projects that the token's user may enter.
	ProjectsOf(ctx context.Context, token string) ([]keystone.Project, error)
	// Revoke ends a token; one that has ended is success.
	Revoke(ctx context.Context, token string) error
}

var _ Keystone = (*keystone.Client)(nil)

// Sealer encrypts the cookie. *ca.Sealer is one.
type Sealer interface {
	Seal(secret []byte, context ...string) []byte
	Open(sealed []byte, context ...string) ([]byte, error)
}

// Options say what the portal works with.
type Options struct {
	API      http.Handler // all requests go to it, with /v1 in front
	Keystone Keystone
	Sealer   Sealer
	Logger   *slog.Logger

	SessionIdle     time.Duration // 0 means 30 minutes
	SessionLifetime time.Duration // 0 means 8 hours
	LoginsPerMinute int           // for one user name; 0: no limit

	ProxyHeaders bool             // believe X-Forwarded-Proto, -For and -Prefix
	Now          func() time.Time // nil means time.Now
}

// Portal answers what lies under Path. It may be used by many goroutines.
type Portal struct {
	Options
	service service
	mux     *http.ServeMux
	logins  *attempts
	origins *http.CrossOriginProtection
	slots   chan struct{} // for logins at Keystone, which are slow by design
}

// New returns the portal.
func New(o Options) *Portal {
	o.SessionIdle = cmp.Or(o.SessionIdle, 30*time.Minute)
	o.SessionLifetime = cmp.Or(o.SessionLifetime, 8*time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Portal{
		Options: o, service: service{o.API}, logins: newAttempts(o.LoginsPerMinute),
		origins: http.NewCrossOriginProtection(), slots: make(chan struct{}, loginsAtOnce),
	}
	p.mux = p.routes()
	return p
}

// routes lists all pages. A page that asks for a session gets one; without it
// the visitor is sent to log in.
func (p *Portal) routes() *http.ServeMux {
	mux := http.NewServeMux()
	static := http.StripPrefix(Path+"/static/", http.HandlerFunc(serveStatic))
	mux.Handle("GET "+Path+"/static/", static)
	mux.HandleFunc("GET "+Path+"/login", p.showLogin)
	mux.HandleFunc("POST "+Path+"/login", p.form(p.login))
	mux.HandleFunc("POST "+Path+"/logout", p.form(p.logout))
	for pattern, page := range map[string]page{
		"GET /{$}":                          p.home,
		"GET /clusters":                     p.listClusters,
		"GET /clusters/new":                 p.newCluster,
		"GET /clusters/{cluster}":           p.showCluster,
		"GET /clusters/{cluster}/access":    p.showAccess,
		"GET /clusters/{cluster}/grow":      p.showGrow,
		"GET /clusters/{cluster}/rebuild":   p.showRebuild,
		"GET /clusters/{cluster}/upgrade":   p.showUpgrade,
		"GET /clusters/{cluster}/delete":    p.showDelete,
		"GET /clusters/{cluster}/autoscale": p.showAutoscale,
		"GET /templates":                    p.listTemplates,
		"GET /templates/new":                p.newTemplate,
		"GET /templates/{template}":         p.showTemplate,
		"GET /quotas":                       p.showQuotas,
		"GET /hosts":                        p.listHosts,
		"GET /projects":                     p.listProjects,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+Path+path, p.inside(page))
	}
	for path, act := range map[string]page{
		"/projects":                     p.enterProject,
		"/clusters/new":                 p.createCluster,
		"/clusters/{cluster}/bundle":    p.downloadBundle,
		"/clusters/{cluster}/grow":      p.growCluster,
		"/clusters/{cluster}/rebuild":   p.rebuildCluster,
		"/clusters/{cluster}/upgrade":   p.upgradeCluster,
		"/clusters/{cluster}/delete":    p.deleteCluster,
		"/clusters/{cluster}/autoscale": p.setAutoscale,
		"/templates/new":                p.createTemplate,
	} {
		mux.HandleFunc("POST "+Path+path, p.form(p.inside(act)))
	}
	mux.HandleFunc(Path+"/", func(w http.ResponseWriter, r *http.Request) {
		p.render(w, r, http.StatusNotFound, "message", view{Title: "Page not found", Body: message{
			Heading: "There is no such page", Text: "The address may be mistyped, or what it showed is gone.",
		}})
	})
	return mux
}

// page answers a request of somebody who is logged in.
type page func(w http.ResponseWriter, r *http.Request, s *session)

// contentPolicy is what a browser may load for a page, and do with it.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers one request.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
	if r.URL.Path == Path {
		http.Redirect(w, r, p.link(r, "/"), http.StatusSeeOther)
		return
	}
	defer func() {
		if cause := recover(); cause != nil {
			if cause == http.ErrAbortHandler {
				panic(cause)
			}
			p.Logger.ErrorContext(r.Context(), "a page of the portal failed", "path", r.URL.Path, "error", cause)
			http.Error(w, "The page could not be made. Please tell your operator the time and the address.", http.StatusInternalServerError)
		}
	}()
	p.mux.ServeHTTP(w, r)
}

// largestForm is how much a form may hold, in bytes.
const largestForm = 64 << 10

// form lets posted forms pass that come from the portal's own pages: the
// browser says so, and the form has the secret of the session.
func (p *Portal) form(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, largestForm)
		stale := message{
			Heading: "This form is out of date",
			Text:    "It was made for another session or project, or has been open for long. Nothing was changed. Please open the page again.",
		}
		if err := p.origins.Check(r); err != nil {
			p.render(w, r, http.StatusForbidden, "message", view{Title: "Refused", Body: stale})
			return
		}
		if err := r.ParseForm(); err != nil {
			p.render(w, r, http.StatusBadRequest, "message", view{Title: "Refused", Body: message{
				Heading: "The form could not be read", Text: "It is larger than a form of this portal can be, or was damaged on its way.",
			}})
			return
		}
		s := p.sessionOf(r)
		if s == nil && r.URL.Path != Path+"/login" {
			p.toLogin(w, r)
			return
		}
		if s == nil || !s.made(r.PostForm.Get("csrf")) {
			p.render(w, r, http.StatusForbidden, "message", view{Title: "Out of date", Session: s, Body: stale})
			return
		}
		next(w, r)
	}
}

// inside lets only those in who are logged in.
func (p *Portal) inside(next page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := p.sessionOf(r)
		if s == nil || s.Token == "" {
			p.toLogin(w, r)
			return
		}
		if !isFragment(r) {
			p.touch(w, r, s)
		}
		next(w, r, s)
	}
}

// isFragment tells whether htmx asks for a piece of a page.
func isFragment(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

// toLogin sends the visitor to log in and then back to the same page.
func (p *Portal) toLogin(w http.ResponseWriter, r *http.Request) {
	if isFragment(r) { // the whole page has to go there
		w.Header().Set("HX-Refresh", "true")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	target := p.link(r, "/login")
	if r.Method == http.MethodGet && r.URL.Path != Path+"/" {
		target += "?next=" + url.QueryEscape(strings.TrimPrefix(r.URL.RequestURI(), Path))
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// fail shows what the API, or Keystone, said.
func (p *Portal) fail(w http.ResponseWriter, r *http.Request, s *session, err error) {
	refused, said := errors.AsType[*Refusal](err)
	switch {
	case said && refused.Status == http.StatusUnauthorized, errors.Is(err, keystone.ErrLoginRefused):
		p.toLogin(w, r)
	case said && refused.Status == http.StatusNotFound:
		p.render(w, r, http.StatusNotFound, "message", view{Title: "Not found", Session: s, Body: message{
			Heading: "Not found in this project", Text: refused.Detail + " It may be gone, or in another project.",
		}})
	case said && refused.Status == http.StatusForbidden:
		p.render(w, r, http.StatusForbidden, "message", view{Title: "Not permitted", Session: s, Body: message{
			Heading: "You may not do this", Text: refused.Detail,
		}})
	case said && refused.Status < http.StatusInternalServerError:
		p.render(w, r, refused.Status, "message", view{Title: "Refused", Session: s, Body: message{Heading: "That was not possible", Text: refused.Detail}})
	default:
		text := "Please try again in a moment."
		if said {
			text = refused.Detail + " Request id: " + refused.RequestID
		}
		p.Logger.ErrorContext(r.Context(), "a page of the portal failed", "path", r.URL.Path, "error", err)
		p.render(w, r, http.StatusServiceUnavailable, "message", view{Title: "Not available", Session: s, Body: message{
			Heading: "The service does not answer", Text: text,
		}})
	}
}

// home is the list of clusters.
func (p *Portal) home(w http.ResponseWriter, r *http.Request, _ *session) {
	http.Redirect(w, r, p.link(r, "/clusters"), http.StatusSeeOther)
}

// link is the address of a page as the browser has to ask for it.
func (p *Portal) link(r *http.Request, page string) string {
	prefix := ""
	if p.ProxyHeaders {
		prefix = forwardedPrefix(r)
	}
	return prefix + Path + page
}

// render sends a page, or, when htmx asks, the piece of it that changes.
func (p *Portal) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Base, v.now = p.link(r, ""), p.Now()
	v.Did = deeds[r.URL.Query().Get("did")]
	if v.Session != nil {
		v.CSRF = v.Session.secret()
	}
	part := "layout"
	if isFragment(r) {
		part = "live"
	}
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, part, &v); err != nil {
		panic(err) // a template that does not fit its data is a defect
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	send(w, r, status, b.Bytes())
}
