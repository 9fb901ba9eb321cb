// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/keelson/keelson/api/v1"
	"github.com/keelson/keelson/internal/model"
	"github.com/keelson/keelson/internal/store"
)

// call is one request on its way through its handler.
type call struct {
	*http.Request
	route   *route
	version microversion
	args    map[string]string
	base    string // scheme, host and prefix of this service, for links
	policy  Policy
	caller  *caller
	admin   bool
}

// target for rules about no resource in particular: the caller's own.
func (c *call) self() target {
	return target{"project_id": c.caller.projectID, "user_id": c.caller.userID}
}

// allows asks the policy.
func (c *call) allows(rule string, t target) bool {
	return c.policy.Allow(rule, c.caller.Caller, t)
}

// demand asks the policy and makes its refusal a 403 that names the rule.
func (c *call) demand(rule string, t target) error {
	if id := t["uuid"]; id != "" {
		infoOf(c.Context()).target = id
	}
	if !c.allows(rule, t) {
		return forbidden("Policy doesn't allow %s to be performed.", rule)
	}
	return nil
}

// authorize demands the route's own rule.
func (c *call) authorize(t target) error { return c.demand(c.route.rule, t) }

// authorizeCreate demands the route's own rule, and a project that the new
// resource will belong to. Without one it would count against no quota.
func (c *call) authorizeCreate() error {
	if err := c.authorize(c.self()); err != nil {
		return err
	}
	if c.caller.projectID == "" {
		return forbidden("The token is not for a project. Please use one that is.")
	}
	return nil
}

// scope is what the caller may see: the own project, or all of them for
// administrators on routes that cross projects.
func (c *call) scope() store.Scope {
	return store.Scope{
		ProjectID: c.caller.projectID,
		UserID:    c.caller.userID,
		All:       c.admin && c.route.across != "",
	}
}

// operation describes who asks for the work that begins.
func (a *API) operation(c *call, deadline time.Duration) store.NewOperation {
	info := infoOf(c.Context())
	return store.NewOperation{
		UserID: c.caller.userID, UserDomainID: info.domain, Deadline: deadline, MaxQueue: a.config.MaxPending,
		RequestID: info.id, GlobalRequestID: info.globalID, TraceParent: info.traceParent,
	}
}

// cluster finds a cluster.
func (a *API) cluster(c *call, ident string) (*model.Cluster, error) {
	cluster, err := a.Store.Cluster(c.Context(), c.scope(), ident)
	return cluster, foundAs("Cluster", ident, err)
}

// permittedCluster finds the cluster that the path names, with which the caller
// may do what the route's rule is about.
func (a *API) permittedCluster(c *call) (*model.Cluster, error) {
	cluster, err := a.cluster(c, c.PathValue("ident"))
	if err != nil {
		return nil, err
	}
	return cluster, c.authorize(targetCluster(cluster))
}

// template finds a cluster template.
func (a *API) template(c *call, ident string) (*model.ClusterTemplate, error) {
	template, err := a.Store.Template(c.Context(), c.scope(), ident)
	return template, foundAs("ClusterTemplate", ident, err)
}

// foundAs names the resource in errors about finding it.
func foundAs(kind, ident string, err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return notFound("%s %s could not be found.", kind, ident)
	case errors.Is(err, store.ErrAmbiguous):
		return conflict("Multiple %ss exist with same name. Please use the UUID of the one instead.", strings.ToLower(kind))
	}
	return err
}

// readArguments reads the query. Names that are not known are refused, and so
// are names given twice.
func readArguments(query string, known []string) (map[string]string, error) {
	if query == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, badRequest("The query can not be read: %s.", err)
	}
	args := make(map[string]string, len(values))
	for name, all := range values {
		if !slices.Contains(known, name) {
			return nil, badRequest("Unknown argument: %q.", name)
		}
		if len(all) != 1 {
			return nil, badRequest("The argument %q is given %d times.", name, len(all))
		}
		if !utf8.ValidString(all[0]) {
			return nil, badRequest("The argument %q is not valid UTF-8.", name)
		}
		args[name] = all[0]
	}
	return args, nil
}

// flag reads a boolean argument; absent is false.
func (c *call) flag(name string) (bool, error) {
	text, given := c.args[name]
	if !given {
		return false, nil
	}
	b, ok := toBoolean(text)
	if !ok {
		return false, badRequest("The argument %q must be true or false, not %q.", name, text)
	}
	return b, nil
}

// paging are the arguments of all lists.
var paging = []string{"marker", "limit", "sort_key", "sort_dir"}

// page reads the arguments of a list whose items are found by a UUID.
func (a *API) page(c *call) (store.Page, error) {
	p, err := a.anyPage(c)
	if err == nil && p.Marker != "" && uuid.Validate(p.Marker) != nil {
		return p, badRequest("The marker must be a UUID, not %q.", p.Marker)
	}
	return p, err
}

func (a *API) anyPage(c *call) (store.Page, error) {
	p := store.Page{Limit: a.config.MaxLimit, SortKey: "id", SortDir: "asc"}
	if text, given := c.args["limit"]; given {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n <= 0 {
			return p, badRequest("The limit must be a whole number above 0, not %q.", text)
		}
		p.Limit = min(n, a.config.MaxLimit)
	}
	if key, given := c.args["sort_key"]; given {
		if key == "" {
			return p, badRequest("The sort_key is empty.")
		}
		p.SortKey = key
	}
	if dir, given := c.args["sort_dir"]; given {
		if dir != "asc" && dir != "desc" {
			return p, badRequest("The sort_dir must be asc or desc, not %q.", dir)
		}
		p.SortDir = dir
	}
	if marker, given := c.args["marker"]; given {
		if marker == "" {
			return p, badRequest("The marker is empty.")
		}
		p.Marker = marker
	}
	return p, nil
}

// next is the address of the page after this one, or empty when this page is
// not full. Full pages always have one, be it of an empty page.
func (c *call) next(path string, p store.Page, length int, last string) string {
	if length == 0 || length != p.Limit {
		return ""
	}
	return c.base + path +
		"?sort_key=" + url.QueryEscape(p.SortKey) + "&sort_dir=" + p.SortDir +
		"&limit=" + strconv.Itoa(p.Limit) + "&marker=" + url.QueryEscape(last)
}

// links point at a resource, with the version of the API and without.
func (c *call) links(path string) []v1.Link {
	return []v1.Link{
		{Href: c.base + "/v1" + path, Rel: "self"},
		{Href: c.base + path, Rel: "bookmark"},
	}
}

// baseURL is what clients reach this service under.
func (a *API) baseURL(r *http.Request) string {
	scheme, host, prefix := "http", r.Host, ""
	if r.TLS != nil {
		scheme = "https"
	}
	if a.config.ProxyHeaders {
		if s := firstWord(r.Header.Get("X-Forwarded-Proto")); s == "http" || s == "https" {
			scheme = s
		}
		if h := firstWord(r.Header.Get("X-Forwarded-Host")); forwardedHost.MatchString(h) {
			host = h
		}
		if p := firstWord(r.Header.Get("X-Forwarded-Prefix")); forwardedPrefix.MatchString(p) {
			prefix = strings.TrimSuffix(p, "/")
		}
	}
	return scheme + "://" + host + prefix
}

// Forms of what proxies tell; anything else would not make a link.
var (
	forwardedHost   = regexp.MustCompile(`^[A-Za-z0-9._-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$`)
	forwardedPrefix = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+/?$`)
)

// firstWord is the first element of a comma-separated header: what the client
// sent to the outermost proxy.
func firstWord(header string) string {
	first, _, _ := strings.Cut(header, ",")
	return strings.TrimSpace(first)
}

// each runs convert over all and never returns nil, so that JSON shows [].
func each[T, U any](all []T, convert func(*T) U) []U {
	out := make([]U, len(all))
	for i := range all {
		out[i] = convert(&all[i])
	}
	return out
}
