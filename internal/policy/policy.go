// SPDX-License-Identifier: Apache-2.0

// Package policy decides who may do what, with oslo.policy's rules: defaults
// in code under Magnum's names, overlaid by an operator's policy.yaml.
package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goslo "github.com/databus23/goslo.policy"
)

// Options say which rules to load. The names follow [oslo_policy].
type Options struct {
	// File is policy.yaml or policy.json. "" or a file that does not exist
	// means the defaults.
	File string

	// EnforceNewDefaults leaves the deprecated defaults out. While it is
	// false, whoever passes the old or the new default passes: that is
	// Magnum up to 16, for clouds whose users have no reader and member
	// roles. Magnum since 18 has it true.
	EnforceNewDefaults bool

	// EnforceScope refuses tokens for the system or a domain where a rule is
	// about things in a project.
	EnforceScope bool

	// PollInterval is how often Run looks at the file; 0 means 5 seconds.
	PollInterval time.Duration

	Logger *slog.Logger // nil discards
}

// Credentials are the attributes of a validated token that rules may compare.
// An empty attribute never equals anything, not even an empty attribute of
// the target.
type Credentials struct {
	UserID, UserName                   string
	UserDomainID, UserDomainName       string
	ProjectID, ProjectName             string
	ProjectDomainID, ProjectDomainName string
	DomainID, DomainName               string // scope of the token, not the user's domain
	SystemScope                        string // "all" or ""
	TrustID                            string
	IsAdminProject                     bool
	Roles                              []string
}

// Caller is Credentials made ready for many checks. It is immutable and may be
// shared by goroutines; make one per token, not per check.
type Caller struct {
	attributes map[string]string
	roles      []string
	inProject  bool // false for tokens of the system or of a domain
}

// NewCaller makes the caller with these credentials.
func NewCaller(c Credentials) *Caller {
	attributes := make(map[string]string, 12)
	set := func(name, value string) {
		if value != "" {
			attributes[name] = value
		}
	}
	set("user_id", c.UserID)
	set("user_name", c.UserName)
	set("user_domain_id", c.UserDomainID)
	set("user_domain_name", c.UserDomainName)
	set("project_id", c.ProjectID)
	set("project_name", c.ProjectName)
	set("project_domain_id", c.ProjectDomainID)
	set("project_domain_name", c.ProjectDomainName)
	set("domain_id", c.DomainID)
	set("domain_name", c.DomainName)
	set("system_scope", c.SystemScope)
	set("trust_id", c.TrustID)
	set("is_admin_project", pythonBool(c.IsAdminProject))
	// Older names that oslo.context still offers to rules.
	set("user", c.UserID)
	set("tenant", c.ProjectID)
	return &Caller{
		attributes: attributes,
		roles:      slices.Clone(c.Roles),
		inProject:  c.SystemScope == "" && (c.ProjectID != "" || c.DomainID == ""),
	}
}

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// knownAttributes are the left sides of checks that can ever be true.
var knownAttributes = []string{
	"user_id", "user_name", "user_domain_id", "user_domain_name",
	"project_id", "project_name", "project_domain_id", "project_domain_name",
	"domain_id", "domain_name", "system_scope", "trust_id", "user", "tenant", "is_admin_project",
}

// Enforcer answers whether a caller passes a rule. It may be used by several
// goroutines at once, while it reloads its file too.
type Enforcer struct {
	options Options
	rules   atomic.Pointer[ruleSet]

	reloading sync.Mutex
	seen      fileState // of the file at the last attempt to load it
}

// ruleSet is one loaded and checked state of the rules; it never changes.
type ruleSet struct {
	engine      *goslo.Enforcer
	checks      map[string]string // effective check string of every rule
	overridden  map[string]bool   // rules from the file
	projectOnly map[string]bool
}

// Load builds the enforcer from the defaults and the file. It reports every
// fault of the file at once.
func Load(options Options) (*Enforcer, error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.PollInterval <= 0 {
		options.PollInterval = 5 * time.Second
	}
	e := &Enforcer{options: options}
	return e, e.Reload()
}

// Allow tells whether the caller passes the rule for the target, a map of the
// attributes that "%(name)s" stands for (project_id, user_id, …). A rule that
// does not exist is answered by the rule "default" if the file has one, and
// else refused.
func (e *Enforcer) Allow(rule string, caller *Caller, target map[string]string) bool {
	rules := e.rules.Load()
	if _, ok := rules.checks[rule]; !ok {
		rule = "default"
	}
	if e.options.EnforceScope && !caller.inProject && rules.projectOnly[rule] {
		return false
	}
	return rules.engine.Enforce(rule, goslo.Context{
		Auth:    caller.attributes,
		Roles:   caller.roles,
		Request: target,
	})
}

// IsAdmin tells whether the caller is an administrator.
func (e *Enforcer) IsAdmin(caller *Caller) bool {
	return e.Allow(contextIsAdmin, caller, nil)
}

// AllProjects tells whether the caller reaches into all projects with an
// operation ("cluster:get"), in addition to Allow for the same rule. Only
// administrators do, and only for operations that have such a rule
// ("cluster:get_one_all_projects"). When allowed is false, that rule refuses
// an administrator and so the whole request.
func (e *Enforcer) AllProjects(rule string, caller *Caller, target map[string]string) (across, allowed bool) {
	if !e.IsAdmin(caller) {
		return false, true
	}
	name, ok := allProjectsRules[rule]
	if !ok {
		return false, true
	}
	allowed = e.Allow(name, caller, target)
	return allowed, allowed
}

// allProjectsRules names the second rule that administrators need.
var allProjectsRules = func() map[string]string {
	names := map[string]string{}
	for _, rule := range operationRules {
		if plain, ok := strings.CutSuffix(rule.Name, "_one_all_projects"); ok {
			names[plain] = rule.Name
		} else if plain, ok := strings.CutSuffix(rule.Name, "_all_projects"); ok {
			names[plain] = rule.Name
		}
	}
	return names
}()

// Run reloads the file whenever it changes, until ctx ends, and returns nil.
// A file that is bad or gone leaves the rules as they were, with a warning.
func (e *Enforcer) Run(ctx context.Context) error {
	ticker := time.NewTicker(e.options.PollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			e.reloadIfChanged()
		}
	}
}

func (e *Enforcer) reloadIfChanged() {
	state := stat(e.options.File)
	e.reloading.Lock()
	changed := state != e.seen
	vanished := state == fileState{}
	if vanished {
		e.seen = state
	}
	e.reloading.Unlock()
	switch {
	case !changed:
	case vanished:
		e.options.Logger.Warn("policy file is gone, its rules stay in force until restart", "file", e.options.File)
	default:
		if err := e.Reload(); err != nil {
			e.options.Logger.Warn("policy file is not usable, the rules stay as they were", "error", err)
			return
		}
		e.options.Logger.Info("policy reloaded", "file", e.options.File)
	}
}

// Reload reads the file again, now. On an error the rules stay as they were.
func (e *Enforcer) Reload() error {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	// Looked at before reading: a change in between is found by the next poll.
	e.seen = stat(e.options.File)
	overlay := map[string]string{}
	if e.options.File != "" {
		var err error
		overlay, err = readFile(e.options.File)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("policy file %s: %w", e.options.File, err)
		}
	}
	rules, warnings, err := compile(overlay, e.options.EnforceNewDefaults)
	if err != nil {
		return fmt.Errorf("policy file %s: %w", e.options.File, err)
	}
	for _, warning := range warnings {
		e.options.Logger.Warn(warning, "file", e.options.File)
	}
	e.rules.Store(rules)
	return nil
}

// fileState is what tells one version of a file from the next; zero when
// there is no file.
type fileState struct {
	modified time.Time
	size     int64
}

func stat(path string) fileState {
	if path == "" {
		return fileState{}
	}
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return fileState{info.ModTime(), info.Size()}
}
