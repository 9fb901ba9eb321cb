// SPDX-License-Identifier: Apache-2.0

// Package identity is a small identity server for machines without Keystone:
// `make demo`, the embedded default, and tests. It speaks the part of the
// Keystone v3 API that openstackclient, keystoneauth and gophercloud use to
// log in, to validate tokens and to find services.
//
// Users, projects and services come from the configuration. Tokens and
// application credentials live in memory only: a restart logs everybody out.
// There is one domain, "Default", and no way to change users by API. Serve it
// on the loopback interface only; a real cloud has Keystone.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The one domain.
const (
	domainID   = "default"
	domainName = "Default"
)

// Config is all that the server knows.
type Config struct {
	// URL is where clients reach the server, ending in /v3. When empty it
	// is made from the Host header of each request.
	URL string

	// Region of all endpoints; "RegionOne" when empty.
	Region string

	// TokenLifetime is one hour when 0.
	TokenLifetime time.Duration

	// MaxTokens bounds the tokens kept in memory; 10000 when 0. The oldest
	// token goes when a new one would not fit.
	MaxTokens int

	Projects []Project
	Users    []User
	Services []Service // beside identity itself

	Logger *slog.Logger // nil discards
}

// Project is a project in the Default domain.
type Project struct {
	ID          string // made from the name when empty, the same at each start
	Name        string
	Description string
}

// User is a user in the Default domain.
type User struct {
	ID             string // made from the name when empty, the same at each start
	Name           string
	Password       string // only a hash of it is kept
	DefaultProject string // name; scope of a login that asks for none; may be ""

	// Roles are given by project name. As in Keystone, "admin" includes
	// "member", and "member" includes "reader".
	Roles map[string][]string

	// SystemRoles are the roles on the system ("system_scope: all").
	SystemRoles []string
}

// Service is an entry of the catalogue, with one URL for all interfaces.
type Service struct {
	Type string // "container-infra"
	Name string
	URL  string
}

// Server is the identity API, an http.Handler. Requests for /v3 and the
// version list at / are answered; mount it under another path with
// http.StripPrefix and set Config.URL. It may be used by several goroutines at
// once.
type Server struct {
	config   Config
	users    []*user
	projects []*project
	roles    []*role
	services []*service
	mux      *http.ServeMux
	log      *slog.Logger

	hashing chan struct{} // slots for password hashing, which is costly on purpose
	nobody  passwordHash  // checked when a user is unknown, so that it takes as long

	mu          sync.Mutex
	tokens      tokenStore
	credentials map[string]*applicationCredential // by id
}

type role struct{ id, name string }

type project struct{ id, name, description string }

type service struct {
	Service
	id          string
	endpointIDs map[string]string // by interface
}

type user struct {
	id, name       string
	password       passwordHash
	defaultProject *project
	projectRoles   map[*project][]*role
	systemRoles    []*role
}

var interfaces = []string{"public", "internal", "admin"}

// New checks the configuration and makes the server.
func New(config Config) (*Server, error) {
	if config.Region == "" {
		config.Region = "RegionOne"
	}
	if config.TokenLifetime <= 0 {
		config.TokenLifetime = time.Hour
	}
	if config.MaxTokens <= 0 {
		config.MaxTokens = 10000
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.URL = strings.TrimRight(config.URL, "/")
	s := &Server{
		config:      config,
		log:         config.Logger,
		hashing:     make(chan struct{}, 2),
		nobody:      passwordHash{salt: []byte(randomText(16)), key: []byte(randomText(24))},
		tokens:      newTokenStore(config.MaxTokens),
		credentials: map[string]*applicationCredential{},
	}
	if config.URL != "" && !strings.HasSuffix(config.URL, "/v3") {
		return nil, fmt.Errorf("identity server: URL %s does not end in /v3", config.URL)
	}
	for _, name := range []string{"reader", "member", "admin", "service"} {
		s.addRole(name)
	}
	if err := errors.Join(s.addProjects(), s.addUsers(), s.addServices()); err != nil {
		return nil, fmt.Errorf("identity server: %w", err)
	}
	s.mux = s.routes()
	return s, nil
}

// stableID makes an id of Keystone's form that is the same at each start: rows
// in other databases refer to it.
func stableID(kind, name string) string {
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte("keelson:identity:"+kind+":"+name))
	return strings.ReplaceAll(id.String(), "-", "")
}

func (s *Server) addRole(name string) *role {
	for _, r := range s.roles {
		if strings.EqualFold(r.name, name) {
			return r
		}
	}
	r := &role{stableID("role", name), name}
	s.roles = append(s.roles, r)
	return r
}

func (s *Server) addProjects() error {
	for _, p := range s.config.Projects {
		if p.Name == "" {
			return errors.New("a project has no name")
		}
		if s.projectByName(p.Name) != nil {
			return fmt.Errorf("project %s is there twice", p.Name)
		}
		if p.ID == "" {
			p.ID = stableID("project", p.Name)
		}
		s.projects = append(s.projects, &project{p.ID, p.Name, p.Description})
	}
	return nil
}

func (s *Server) addUsers() error {
	for _, u := range s.config.Users {
		if u.Name == "" || u.Password == "" {
			return fmt.Errorf("user %q has no name or no password", u.Name)
		}
		if s.userByName(u.Name) != nil {
			return fmt.Errorf("user %s is there twice", u.Name)
		}
		if u.ID == "" {
			u.ID = stableID("user", u.Name)
		}
		added := &user{
			id: u.ID, name: u.Name,
			password:     hashPassword(u.Password),
			projectRoles: map[*project][]*role{},
			systemRoles:  s.withImplied(u.SystemRoles),
		}
		for name, roles := range u.Roles {
			p := s.projectByName(name)
			if p == nil {
				return fmt.Errorf("user %s has roles on project %s, which does not exist", u.Name, name)
			}
			added.projectRoles[p] = s.withImplied(roles)
		}
		if u.DefaultProject != "" {
			added.defaultProject = s.projectByName(u.DefaultProject)
			if added.projectRoles[added.defaultProject] == nil {
				return fmt.Errorf("user %s has no role on the default project %s", u.Name, u.DefaultProject)
			}
		}
		s.users = append(s.users, added)
	}
	// The configuration is kept for its other fields only.
	s.config.Users = nil
	return nil
}

// withImplied resolves names to roles and adds the roles they include.
func (s *Server) withImplied(names []string) []*role {
	var roles []*role
	add := func(name string) {
		if r := s.addRole(name); !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	for _, name := range names {
		add(name)
		switch strings.ToLower(name) {
		case "admin":
			add("member")
			add("reader")
		case "member":
			add("reader")
		}
	}
	return roles
}

func (s *Server) addServices() error {
	all := append([]Service{{Type: "identity", Name: "keystone", URL: s.config.URL}}, s.config.Services...)
	for _, added := range all {
		if added.Type == "" || added.URL == "" && added.Type != "identity" {
			return fmt.Errorf("service %q needs a type and a URL", added.Name)
		}
		if slices.ContainsFunc(s.services, func(there *service) bool { return there.Type == added.Type }) {
			return fmt.Errorf("service type %s is there twice", added.Type)
		}
		entry := &service{Service: added, id: stableID("service", added.Type), endpointIDs: map[string]string{}}
		for _, name := range interfaces {
			entry.endpointIDs[name] = stableID("endpoint", added.Type+"/"+name)
		}
		s.services = append(s.services, entry)
	}
	return nil
}

func (s *Server) projectByName(name string) *project {
	return find(s.projects, func(p *project) bool { return p.name == name })
}

func (s *Server) projectByID(id string) *project {
	return find(s.projects, func(p *project) bool { return p.id == id })
}

func (s *Server) userByName(name string) *user {
	return find(s.users, func(u *user) bool { return strings.EqualFold(u.name, name) })
}

func (s *Server) userByID(id string) *user {
	return find(s.users, func(u *user) bool { return u.id == id })
}

func find[T any](all []*T, match func(*T) bool) *T {
	if i := slices.IndexFunc(all, match); i >= 0 {
		return all[i]
	}
	return nil
}

// Run serves on the listener until ctx ends, then closes it. Requests in
// flight get five seconds to end.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("identity server on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	<-ended
	if err != nil {
		return fmt.Errorf("stop identity server: %w", errors.Join(err, server.Close()))
	}
	return nil
}
